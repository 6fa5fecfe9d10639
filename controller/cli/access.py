"""`gloam-controller grant`, `policy`: who may reach what."""

from pathlib import Path
from typing import Annotated, Any

import typer

from console.errors import CommandError, ExitCode
from console.output import Output
from controller.cli.options import Json, State, ask, done, noun, table

grant = noun("grant", "Grants: who may reach what, without writing policies.")
policy = noun("policy", "Policies in Cedar, for what grants cannot say.")

Files = Annotated[list[Path], typer.Argument(help="Files of Cedar policies.")]


@grant.command("add")
def grant_add(
    group: Annotated[str | None, typer.Option("--group", help="To a group.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="To one person.")] = None,
    resource: Annotated[str | None, typer.Option("--resource", help="One resource.")] = None,
    segment: Annotated[str | None, typer.Option("--segment", help="All resources of a segment.")] = None,
    hours: Annotated[str | None, typer.Option("--hours", help='Like "Mon-Fri 08:00-18:00 Europe/Paris".')] = None,
    mfa_within: Annotated[
        str | None, typer.Option("--mfa-within", help="A second factor no older than this: 15m.")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="How long the grant holds: 4h, 30d.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for those who read it later.")] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Grant a group or person a resource or segment.

    Example: gloam-controller grant add --group staff --resource wiki --mfa-within 8h
    """
    document = ask(
        state, "grant.add", group=group, user=user, resource=resource, segment=segment, hours=hours,
        mfa_within=mfa_within, expires=expires, reason=reason,
    )  # fmt: skip
    done(document, f"grant {document['id']} added", as_json=json)


@grant.command("list")
def grant_list(state: State = None, json: Json = False) -> None:
    """List grants.

    Example: gloam-controller grant list
    """
    columns = {
        "id": "ID", "to": "TO", "on": "ON", "hours": "HOURS", "mfa_within": "MFA WITHIN", "expires_at": "EXPIRES",
        "reason": "REASON",
    }  # fmt: skip
    table(ask(state, "grant.list"), "Grants", columns, as_json=json)


@grant.command("remove")
def grant_remove(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Remove a grant: tunnels that only it allowed are cut.

    Example: gloam-controller grant remove 3f2a…
    """
    done(ask(state, "grant.remove", id=id), f"grant {id} removed", as_json=json)


def _texts(files: list[Path]) -> list[dict[str, str]]:
    return [{"name": file.name, "text": _text(file)} for file in files]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", "name a policy file") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 text", "name a policy file") from error


def _problems(document: dict[str, Any], *, as_json: bool) -> ExitCode:
    """Print what is wrong or odd, one line each. FAILED if anything is wrong."""
    output = Output(json=as_json)
    problems = document["problems"]
    output.show(document, lambda _: None)
    for problem in (*problems, *document["warnings"]):
        kind = "" if problem in problems else "warning: "
        where = f"{problem['file']}:{problem['line']}:{problem['column']}"
        output.say(f"{where}: {kind}{problem['what']}; {problem['fix']}")
    if not problems:
        output.say("no problems")
    return ExitCode.FAILED if problems else ExitCode.DONE


@policy.command("check")
def policy_check(files: Files, state: State = None, json: Json = False) -> int:
    """Check policies against the syntax and the schema, changing nothing.

    Example: gloam-controller policy check contractors.cedar
    """
    return _problems(ask(state, "policy.check", files=_texts(files)), as_json=json)


@policy.command("apply")
def policy_apply(files: Files, state: State = None, json: Json = False) -> int:
    """Put policies in force; a file replaces the one of the same name. Nothing changes if anything is wrong.

    Example: gloam-controller policy apply contractors.cedar
    """
    document = ask(state, "policy.apply", files=_texts(files))
    code = _problems(document, as_json=json)
    if code is ExitCode.DONE and not json:
        Output().say(f"in force, revision {document['revision']}")
    return code


@policy.command("remove")
def policy_remove(name: str, state: State = None, json: Json = False) -> None:
    """Take a policy file out of force.

    Example: gloam-controller policy remove contractors.cedar
    """
    done(ask(state, "policy.remove", name=name), f"policy {name} removed", as_json=json)


@policy.command("show")
def policy_show(state: State = None, json: Json = False) -> None:
    """Show every policy in force: the files applied, and what grants compile to.

    Example: gloam-controller policy show
    """
    document = ask(state, "policy.show")

    def human(_: Any) -> None:
        output = Output()
        for each in document["policies"]:
            output.say(f"// {each['name']}\n{each['text'].rstrip()}\n")

    Output(json=json).show(document, human)


@policy.command("explain")
def policy_explain(
    user: Annotated[str, typer.Option("--user", help="Who.")],
    resource: Annotated[str, typer.Option("--resource", help="What.")],
    at: Annotated[str | None, typer.Option("--at", help="When, like 2026-12-24T18:00+01:00 (else now).")] = None,
    source: Annotated[str | None, typer.Option("--source", help="For a new session from this address.")] = None,
    state: State = None,
    json: Json = False,
) -> int:
    """Say whether a person may reach a resource, by which policy, and what would help. Exits 4 when denied.

    The answer is for their newest live session; without one (or with --source), for a session that has just begun.

    Example: gloam-controller policy explain --user alice --resource payroll
    """
    document = ask(state, "policy.explain", user=user, resource=resource, at=at, source=source)

    def human(_: Any) -> None:
        output = Output()
        output.say(f"{document['answer']}: {document['sentence']}")
        if document["policies"]:
            output.say(f"policies: {', '.join(document['policies'])}")
        if document["fix"]:
            output.say(f"fix: {document['fix']}")
        output.say(f"assumed: {document['assumed']}")

    Output(json=json).show(document, human)
    return ExitCode.DONE if document["answer"] == "allow" else ExitCode.DENIED
