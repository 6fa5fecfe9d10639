"""`gloam-controller ca`: the certificate authority, and how its intermediates are replaced."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.names import Purpose
from console.errors import CommandError
from console.output import Output
from controller.cli.options import Json, State, ask, done, noun
from controller.cli.passphrases import PassphraseStdin, old_passphrase

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
            return f"rotate it before {view['rotate_by']}"


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
        raise CommandError(
            f"{len(losing)} {'loses' if len(losing) == 1 else 'lose'} access by this", "add --yes to do it all the same"
        )


@ca.command("request")
def ca_request(
    purpose: Annotated[Purpose, typer.Argument(help="sessions, devices or services.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; it holds no secret.")],
    state: State = None,
    json: Json = False,
) -> None:
    """Where the root is kept offline: write a request for a new intermediate, to be signed where the root is.

    Example: gloam-controller ca request sessions --out sessions.request
    """
    from controller.safekeeping.encrypted import write_new

    document = ask(state, "ca.request", purpose=purpose)
    write_new(out, document.pop("request").encode() + b"\n", mode=0o644)
    sentence = (
        f"{out} written; next, where the root is: gloam-controller ca sign --root FILE --request {out} --out FILE"
    )
    done({**document, "file": str(out)}, sentence, as_json=json)


@ca.command("sign")
def ca_sign(
    root: Annotated[Path, typer.Option("--root", help="The root's file, as init --root-out wrote it.")],
    request: Annotated[Path, typer.Option("--request", help="What ca request wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write: the certificate.")],
    passphrase_stdin: PassphraseStdin = False,
    json: Json = False,
) -> None:
    """Sign a request with the root. Needs no state, no network and no running controller.

    Example: gloam-controller ca sign --root root.age --request sessions.request --out sessions.pem
    """
    from controller.safekeeping.encrypted import read_file, write_new
    from controller.safekeeping.root import read_root, sign

    asked = read_file(request)
    signed = sign(read_root(root, old_passphrase(stdin=passphrase_stdin)), asked, now=datetime.now(UTC))
    write_new(out, signed.certificate.public_bytes(Encoding.PEM), mode=0o644)
    document = {
        "purpose": signed.purpose,
        "sha256": signed.certificate.fingerprint(SHA256()).hex(),
        "valid_until": signed.certificate.not_valid_after_utc,
        "file": str(out),
    }
    sentence = f"{out} written: an intermediate for {signed.purpose}; next: gloam-controller ca install {out}"
    done(document, sentence, as_json=json)


@ca.command("install")
def ca_install(
    file: Annotated[Path, typer.Argument(help="The certificate that ca sign wrote.")],
    now: Annotated[bool, typer.Option("--now", help="Trust the old one no more, at once: its key was stolen.")] = False,
    yes: Sure = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Begin with an intermediate that the root signed offline: from here on it is as with ca rotate.

    Example: gloam-controller ca install sessions.pem
    """
    from controller.safekeeping.encrypted import read_file

    certificate = read_file(file).decode(errors="replace")
    if now:
        purpose = ask(state, "ca.install", certificate=certificate, sure=False)["purpose"]
        _warn(ask(state, "ca.losing", purpose=purpose), yes=yes)
    view = ask(state, "ca.install", certificate=certificate, at_once=now)
    done(view, _outcome(view), as_json=json)
