"""`gloam-controller session`, `audit`, `status`: what goes on, and what went on."""

import json as json_module
import re
from typing import Annotated, Any

import typer

from console.errors import CommandError, ExitCode
from console.output import Output, counted
from controller.admin.client import stream
from controller.cli.options import Json, State, ask, controller_state, done, noun, table

session = noun("session", "Sessions: people who are logged in.")
audit = noun("audit", "The audit log: every decision, change, refused knock and tunnel.")


@session.command("list")
def session_list(state: State = None, json: Json = False) -> None:
    """List live sessions.

    Example: gloam-controller session list
    """
    columns = {
        "id": "ID", "user": "USER", "device": "DEVICE", "source": "FROM", "started_at": "SINCE", "valid_until": "UNTIL",
        "resources": "REACHES",
    }  # fmt: skip
    table(ask(state, "session.list"), "Sessions", columns, as_json=json)


@session.command("show")
def session_show(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Show one session: what it may reach, what not, and why.

    Example: gloam-controller session show 3f2a…
    """
    document = ask(state, "session.show", id=id)
    output = Output(json=json)
    output.show(document, lambda _: None)
    for key, value in document.items():
        if key != "resources":
            output.say(f"{key}: {value}")
    reached = [[each["name"], each["allowed"], each["sentence"], each["fix"]] for each in document["resources"]]
    output.table("Resources", ["NAME", "ALLOWED", "WHY NOT", "FIX"], reached)


@session.command("revoke")
def session_revoke(
    id: Annotated[str | None, typer.Argument(help="A session.")] = None,  # noqa: A002 - what the user types
    user: Annotated[str | None, typer.Option("--user", help="Every session of a person.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Every session of a device.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="What the person is told.")] = "",
    state: State = None,
    json: Json = False,
) -> int:
    """End sessions now: leases dropped, live tunnels cut, before this command returns. Exits 1 if a gateway lags.

    Example: gloam-controller session revoke --user alice --reason "laptop reported stolen"
    """
    if sum(each is not None for each in (id, user, device)) != 1:
        raise CommandError(
            "the sessions to end have to be named in one way", "name a session, or --user, or --device", ExitCode.USAGE
        )
    document = ask(state, "session.revoke", id=id, user=user, device=device, reason=reason)
    ended = f"{counted(document['ended'], 'session')} ended"
    sentence = f"{ended}, acknowledged by every gateway in {document['milliseconds']:.1f} ms"
    if document["lagging"]:
        sentence = f"{ended}; not acknowledged yet by {', '.join(document['lagging'])}"
    done(document, sentence, as_json=json)
    return ExitCode.FAILED if document["lagging"] else ExitCode.DONE


@audit.command("tail")
def audit_tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the past.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things happen.")] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the newest records; with --json one document a line.

    Example: gloam-controller audit tail --follow
    """
    output = Output(json=json)
    for record in stream(controller_state(state), "audit.tail", lines=lines, follow=follow):
        output.row(record, _sentence(record))


_WORD = re.compile(r"\A[^\s=\"]+\Z")  # anything else is quoted, so that nothing in a value reads like a field


def _sentence(record: dict[str, Any]) -> str:
    shown = {key: value for key, value in record["event"].items() if key != "kind" and value not in (None, "", [], {})}
    rest = "  ".join(
        f"{key}={value if isinstance(value, str) and _WORD.match(value) else json_module.dumps(value)}"
        for key, value in shown.items()
    )
    return f"{record['at']}  {record['kind']:<18}  {rest}"


@audit.command("verify")
def audit_verify(state: State = None, json: Json = False) -> int:
    """Check every record of every chain. Needs no running controller. Exits 1 naming the first record that is wrong.

    Example: gloam-controller audit verify
    """
    from controller.audit.offline import verify_state

    return _verdict(verify_state(controller_state(state)), as_json=json)


def _verdict(document: dict[str, Any], *, as_json: bool) -> int:
    output = Output(json=as_json)
    output.show(document, lambda _: None)
    if document["intact"]:
        output.say(f"{document['records']} records in {document['chains']} chains, all intact")
        return ExitCode.DONE
    output.say(f"BROKEN: {document['what']}")
    return ExitCode.FAILED


def status(state: State = None, json: Json = False) -> None:
    """Show how the controller is doing.

    Example: gloam-controller status
    """
    document, output = ask(state, "status"), Output(json=json)
    parts = {"gateways": ("GATEWAY", "LINK"), "counters": ("COUNTER", "TIMES")}
    plain = {key: value for key, value in document.items() if key not in parts and key != "cloak_trouble"}
    if trouble := document["cloak_trouble"]:
        plain["cloak_trouble"] = f"{trouble['code']}: {trouble['detail']}"
    output.show(document, lambda _: output.show(plain))
    for key, columns in parts.items():
        if document[key]:
            output.table(key.capitalize(), columns, document[key].items())


def metrics(state: State = None, json: Json = False) -> None:
    """Print when certificates end, and a few counts, in the text format of Prometheus.

    Example: gloam-controller metrics > /var/lib/node_exporter/gloam.prom
    """
    document = ask(state, "metrics")

    def text(_: Any) -> None:
        print(document["text"], end="")  # noqa: T201 - for a program: no wrapping, no styling

    Output(json=json).show(document, text)
