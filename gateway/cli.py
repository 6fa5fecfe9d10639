"""`gloam-gateway`: join a perimeter, run, say how it goes."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from console.run import run as run_app
from console.version import add_version

app = typer.Typer(
    name="gloam-gateway",
    help="Run a gateway of a gloam perimeter: dark, until somebody who may knocks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
add_version(app, "gloam-gateway")

State = Annotated[
    Path | None, typer.Option("--state", help="The state directory (else $GLOAM_STATE, else the usual place).")
]
CloakChoice = Literal["auto", "nftables", "socket-filter", "on-demand"]  # CloakName, without loading spa
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _state(option: Path | None) -> Path:
    from console.state import state_directory

    return state_directory(option, "gateway", os.environ)


@app.command()
def join(
    invite: Annotated[str, typer.Argument(help="The invite; - reads it from standard input.")],
    state: State = None,
    json: Json = False,
) -> None:
    """Join a perimeter with an invite: makes this gateway's key here and has it certified.

    Example: gloam-gateway join gloam-invite-v1.… --state /var/lib/gloam/gateway
    """
    from console.logs import configure_logs
    from console.output import Output
    from console.piped import piped_text
    from gateway.join import join as join_perimeter

    configure_logs(json, "warning")
    directory = _state(state)
    settings = asyncio.run(join_perimeter(piped_text() if invite == "-" else invite, directory))
    output = Output(json=json)
    document = {
        "gateway": settings.name,
        "domain": settings.domain,
        "state": str(directory),
        "listen": str(settings.listen),
        "knock": str(settings.knock),
    }
    output.show(document, lambda _: None)
    output.say(
        f"this is gateway {settings.name} of {settings.domain} now; "
        f"start it with: gloam-gateway run --state {directory}"
    )


@app.command()
def run(
    state: State = None,
    cloak: Annotated[
        CloakChoice | None,
        typer.Option("--cloak", help="What keeps the port dark; else as config.toml says."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, max=64, help="Processes that carry tunnels; 0, or unsaid: one for each core."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Log as JSON, one document a line.")] = False,
) -> None:
    """Run the gateway; logs "ready" once it accepts knocks. SIGTERM drains, a second one stops at once.

    Example: gloam-gateway run --state /var/lib/gloam/gateway
    """
    from certs.store import check_state_directory
    from console.descriptors import allow_many
    from console.errors import CommandError
    from console.logs import configure_logs
    from console.settings import load_settings
    from console.state import only_one
    from gateway.config import GatewaySettings, settings_path
    from gateway.loop import new_event_loop
    from gateway.run import serve

    directory = _state(state)
    path = settings_path(directory)
    if not path.exists():
        raise CommandError(
            f"{directory} is no gateway yet", f"join with: gloam-gateway join INVITE --state {directory}"
        )
    chosen = {"GLOAM_CLOAK": cloak, "GLOAM_WORKERS": None if workers is None else str(workers)}
    environ = {**os.environ, **{name: value for name, value in chosen.items() if value is not None}}
    settings = load_settings(GatewaySettings, path, environ)
    configure_logs(json or settings.log_json, settings.log_level)
    check_state_directory(directory)
    allow_many()
    with only_one(directory, "gateway"), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(directory, settings))


@app.command()
def status(state: State = None, json: Json = False) -> int:
    """Show how the gateway is doing: link, cloak, leases, windows, tunnels, certificate. Exits 1 while it is not ready.

    Example: gloam-gateway status --state /var/lib/gloam/gateway
    """
    from console.errors import ExitCode
    from console.output import Output
    from gateway.status import ask, describe

    document = ask(_state(state))
    output = Output(json=json)
    output.show(document, lambda _: None)
    describe(document, output)
    return ExitCode.DONE if document["ready"] else ExitCode.FAILED


def main() -> None:
    """The console script."""
    run_app(app, "gloam-gateway")


if __name__ == "__main__":
    main()
