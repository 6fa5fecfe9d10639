"""`gloam-controller init`, `run`: the controller itself."""

import os
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.options import Json, State, controller_state, done
from controller.cli.passphrases import PassphraseStdin, new_passphrase


def init(
    domain: Annotated[str, typer.Option("--domain", help="The trust domain, like example.test.")],
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT for control connections (TCP).")],
    knock: Annotated[str, typer.Option("--knock", help="HOST:PORT for knocks (UDP).")],
    advertise: Annotated[str | None, typer.Option("--advertise", help="HOST:PORT that others use, if another.")] = None,
    database: Annotated[
        str | None, typer.Option("--database", help="A database URL (else SQLite in the state).")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="This controller's name.")] = "main",
    root_out: Annotated[
        Path | None,
        typer.Option("--root-out", help="Keep the root key in this new, encrypted file only."),
    ] = None,
    passphrase_stdin: PassphraseStdin = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Make a controller: its state directory, master key, certificate authorities and database. All or nothing.

    Example: gloam-controller init --domain example.test --listen 192.0.2.1:8443 --knock 192.0.2.1:62201
    """
    from controller.init import RootOut, initialise_from_options
    from controller.safekeeping.encrypted import Lock

    directory = controller_state(state)
    root = None if root_out is None else RootOut(root_out, Lock(new_passphrase(stdin=passphrase_stdin)))
    document = initialise_from_options(
        directory, domain=domain, listen=listen, knock=knock, advertise=advertise, database=database, name=name,
        environ=os.environ, root_out=root,
    )  # fmt: skip
    done(document, f"controller made in {directory}; next: gloam-controller run --state {directory}", as_json=json)


def run(
    state: State = None,
    cloak: Annotated[str | None, typer.Option("--cloak", help="auto, nftables, socket-filter or on-demand.")] = None,
    json_logs: Annotated[bool, typer.Option("--json", help="Log JSON.")] = False,
) -> int:
    """Serve until SIGTERM. Says `ready` once it accepts knocks; SIGHUP reads the configuration again.

    Example: gloam-controller run --state /var/lib/gloam/controller
    """
    from console.logs import configure_logs
    from controller.run import serve

    configure_logs(json=json_logs, level=os.environ.get("GLOAM_LOG_LEVEL", "info"))
    environ = dict(os.environ)
    if cloak is not None:
        environ["GLOAM_CLOAK"] = cloak
    return serve(controller_state(state), environ)
