"""`gloam-controller ca`: the certificate authority, and how its intermediates are replaced."""

from typing import Annotated, Any

import typer

from certs.names import Purpose
from console.errors import CommandError, ExitCode
from console.output import Output
from controller.cli.options import Json, State, ask, done, noun

ca = noun("ca", "The certificate authority: its root, and one intermediate for each purpose.")

Sure = Annotated[bool, typer.Option("--yes", help="Do it although somebody loses access.")]


@ca.command("show")
def ca_show(state: State = None, json: Json = False) -> None:
    """Show the root and the intermediates: which issue, which are on their way in or out, and what hangs on them.

    Example: gloam-controller ca show
    """
    document = ask(state, "ca.show")
    output = Output(json=json)
    output.show(document, lambda _: None)
    root = document["root"]
    output.say(f"root of {document['domain']}: until {root['valid_until']}, key {root['key']}")
    output.say(f"  sha256 of its key (what invites pin): {root['sha256']}")
    columns = ["ID", "PURPOSE", "NOW", "SHA256", "VALID UNTIL", "IN USE BY", "NOTE"]
    keys = ("id", "purpose", "standing", "sha256", "valid_until", "hangs")
    rows = [[*(each[key] for key in keys), _note(each)] for each in document["intermediates"]]
    output.table("Intermediates", columns, rows)


def _note(view: dict[str, Any]) -> str:
    match view["standing"]:
        case "next":
            awaited = ", ".join(view["waits_for"])
            return f"issues once {awaited} knows it, or at {view['ends']}" if awaited else "issues in a moment"
        case "retiring":
            return f"goes by itself at {view['ends']}"
        case "retired":
            return f"since {view['retired_at']}"
        case _:
            return ""


@ca.command("rotate")
def ca_rotate(
    purpose: Annotated[Purpose, typer.Argument(help="sessions, devices or services.")],
    now: Annotated[bool, typer.Option("--now", help="Trust the old one no more, at once: its key was stolen.")] = False,
    yes: Sure = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Replace an intermediate. Nobody is shut out: both are trusted until nothing hangs on the old one any more.

    With --now the old one counts for nothing from now on, and who hangs on it loses access; --yes says you know.

    Example: gloam-controller ca rotate sessions
    """
    if now:
        _warn(ask(state, "ca.losing", purpose=purpose), yes=yes)
    view = ask(state, "ca.rotate", purpose=purpose, at_once=now)
    done(view, _outcome(view), as_json=json)


def _outcome(view: dict[str, Any]) -> str:
    if view["standing"] == "issuing":
        return f"the new intermediate issues for {view['purpose']}; see: gloam-controller ca show"
    return f"the new intermediate for {view['purpose']} is trusted; it {_note(view)}"


@ca.command("retire")
def ca_retire(
    id: Annotated[str, typer.Argument(help="An intermediate that no longer issues; see ca show.")],  # noqa: A002
    yes: Sure = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Trust an old intermediate no more, before its time. Who hangs on it loses access, and is named first.

    Example: gloam-controller ca retire 3f2a…
    """
    _warn(ask(state, "ca.retire", id=id)["losing"], yes=yes)
    document = ask(state, "ca.retire", id=id, sure=True)
    done(document, f"intermediate {document['id']} is trusted no more", as_json=json)


def _warn(losing: list[dict[str, Any]], *, yes: bool) -> None:
    """Names on stderr who loses access; refuses to go on without --yes."""
    if not losing:
        return
    for each in losing:
        typer.echo(f"loses access: {each['kind']} {each['name']}", err=True)
    if not yes:
        raise CommandError(f"{len(losing)} lose access by this", "add --yes to do it all the same", ExitCode.USAGE)
