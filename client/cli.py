"""The command `gloam`. Each function here reads options and prints; what it does is in the module it names."""

import asyncio
import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from client.cli_account import account
from client.cli_options import (
    DeviceCodeOption,
    JsonOption,
    NoBrowserOption,
    OidcOption,
    OtpOption,
    PasskeyOption,
    QrOption,
    StateOption,
    UserArgument,
    asking_of,
    enrolled,
    provider_of,
    state_of,
)
from console.errors import CommandError, ExitCode
from console.output import Output
from console.run import run
from console.version import add_version

PROG = "gloam"
COMMANDS_GROUP = "gloam.commands"

app = typer.Typer(
    name=PROG,
    help="Reach what is hidden behind a gloam perimeter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
add_version(app, PROG)

passkey = typer.Typer(
    name="passkey", help="Your passkeys and security keys.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(passkey)

ResourceArgument = Annotated[
    str, typer.Argument(metavar="RESOURCE[:PORT]", help="The resource, as gloam resources names it.")
]


@app.command(epilog="Example: gloam enrol gloam-invite-v1.AbC…   or: gloam enrol - < invite.txt")
def enrol(
    invite: Annotated[str, typer.Argument(metavar="INVITE", help="The invite, or - to read it from standard input.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What administrators see; the host's name if not given.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up the device that is enrolled here: it is revoked.")
    ] = False,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Seal its keys with a key that the system's keyring keeps.")
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Make this machine's key and enrol it with an invite."""
    from client.enrol import enrol_device, read_invite
    from client.report import replaced_document, tell_replaced
    from console.piped import piped_text

    text = piped_text() if invite == "-" else invite
    here, read = state_of(state), read_invite(text)
    new = asyncio.run(enrol_device(here, read, replace=replace, name=name, keyring=keyring))
    profile = new.profile
    document = {
        "domain": profile.domain,
        "device": profile.device,
        "user": profile.user,
        "keyring": keyring,
        "replaced": replaced_document(new.former),
    }
    told = f"Enrolled for {profile.user} in {profile.domain} as device {profile.device}. Next: gloam login"
    if not profile.user:
        told = f"Enrolled in {profile.domain} as device {profile.device}; whoever logs in first owns it. Next: "
        told += "gloam login --oidc"
    output = Output(json=json)
    output.show(document, lambda console: console.print(told))
    tell_replaced(output, new.former)


@app.command(epilog="Example: gloam login ada   or: gloam login --oidc corp   or: gloam login --oidc --device-code")
def login(
    user: UserArgument = None,
    otp: OtpOption = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="The password is the first line of standard input.")
    ] = False,
    step_up: Annotated[
        bool, typer.Option("--step-up", help="Prove it again for the session there is; tunnels live on.")
    ] = False,
    qr_png: QrOption = None,
    passkey: PasskeyOption = False,
    oidc: OidcOption = False,
    device_code: DeviceCodeOption = False,
    no_browser: NoBrowserOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Log in; a background agent then keeps the session alive."""
    from client.login import login as log_in

    at = provider_of(user, oidc=oidc, device_code=device_code, fresh=step_up)
    here = enrolled(state)
    asking = asking_of(
        here, None if oidc else user, otp, password_stdin=password_stdin, json=json, qr_png=qr_png,
        passkey=passkey, no_browser=no_browser, at_provider=at,
    )  # fmt: skip
    log_in(here, asking, Output(json=json), step_up=step_up)


@passkey.command("add", epilog="Example: gloam passkey add 'blue key'")
def passkey_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you will call it.")],
    no_browser: NoBrowserOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Add a passkey or security key, in your browser."""
    from client.passkey.commands import add

    add(enrolled(state), name, Output(json=json), browser=not no_browser)


@passkey.command("list", epilog="Example: gloam passkey list")
def passkey_list(state: StateOption = None, json: JsonOption = False) -> None:
    """List your passkeys."""
    from client.passkey.commands import show

    show(enrolled(state), Output(json=json))


@passkey.command("remove", epilog="Example: gloam passkey remove 'blue key'")
def passkey_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or its identifier.")],
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Remove one of your passkeys."""
    from client.passkey.commands import remove

    remove(enrolled(state), name, Output(json=json))


@app.command(epilog="Example: gloam status --json")
def status(state: StateOption = None, json: JsonOption = False) -> None:
    """Say who I am, until when, what I can reach and what is wrong."""
    from client.agent.messages import StatusAnswer
    from client.ask import ask_status
    from client.report import status_document, tell_status

    here = enrolled(state)
    answer: StatusAnswer | None = asyncio.run(ask_status(here))
    output = Output(json=json)
    document = status_document(here, answer)
    output.show(document, lambda _console: tell_status(output, document, answer.session if answer else None))


@app.command(epilog="Example: gloam resources")
def resources(state: StateOption = None, json: JsonOption = False) -> None:
    """List what I may reach, and what I may not with the reason and the fix."""
    from client.ask import ask_status, no_session
    from client.report import in_order, resource_document, tell_resources

    here = enrolled(state)
    answer = asyncio.run(ask_status(here))
    if answer is None or answer.session is None:
        raise no_session(here, answer)
    view = answer.session
    output = Output(json=json)
    output.show(
        [resource_document(each) for each in in_order(view.resources)],
        lambda _console: tell_resources(output, view.resources),
    )


@app.command(epilog="Example: gloam forward wiki --listen 127.0.0.1:8080   or: gloam forward dns/udp")
def forward(
    resource: Annotated[
        str, typer.Argument(metavar="RESOURCE[:PORT][/udp]", help="The resource, as gloam resources names it.")
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 finds a free one.")
    ] = "127.0.0.1:0",
    warm: Annotated[
        int | None,
        typer.Option("--warm", metavar="N", min=0, max=8, help="Connections kept ready at the gateway (default 2)."),
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Listen on a local port; each connection, or each sender of datagrams, gets a tunnel to the resource."""
    from client.config import ClientSettings
    from client.datagrams import UdpForward
    from client.forward import Forward
    from client.listen import Listening, exposed
    from client.loop import run_until_signalled
    from client.reach import parse_target
    from client.step_up import with_step_up
    from console.address import BadAddress, HostPort
    from console.settings import load_settings
    from console.text import visible

    try:
        address = HostPort.parse(listen)
    except BadAddress as error:
        raise CommandError(str(error), "give --listen HOST:PORT, as in 127.0.0.1:0", ExitCode.USAGE) from error
    output = Output(json=json)

    def announce(listening: Listening) -> None:
        document = {
            "listen": str(listening.address),
            "host": listening.address.host,
            "port": listening.address.port,
            "resource": listening.resource,
            "resource_port": listening.port,
            "protocol": listening.protocol,
        }
        output.row(document, str(listening))
        if exposed(listening.address):
            tell(f"warning: others on the network can use {listening.address} to reach {listening.resource} as you")

    def tell(problem: str) -> None:
        sys.stderr.write(f"{PROG}: {visible(problem)}\n")
        sys.stderr.flush()

    here, target = enrolled(state), parse_target(resource, udp=True)
    kept = load_settings(ClientSettings, here.config, os.environ).warm if warm is None else warm
    serving = UdpForward if target.protocol == "udp" else Forward

    def serve() -> None:
        run_until_signalled(serving(here, target, tell, warm=kept).run(address, announce))

    with_step_up(here, serve, interactive=not json and sys.stdin.isatty() and sys.stderr.isatty())


@app.command(epilog="Example: ssh -o ProxyCommand='gloam connect %h:%p' build-server")
def connect(
    resource: ResourceArgument,
    state: StateOption = None,
    json: Annotated[bool, typer.Option("--json", help="Errors as JSON; standard output carries the tunnel.")] = False,
) -> None:
    """Carry standard input and output through a tunnel."""
    from client.loop import run_loop
    from client.reach import parse_target
    from client.stdio import connect_stdio
    from client.step_up import with_step_up

    # Standard output belongs to the tunnel; what Python buffered for it must not come in between.
    sys.stdout.flush()
    here, target, streams = enrolled(state), parse_target(resource), (sys.stdin.fileno(), sys.stdout.fileno())
    with_step_up(here, lambda: run_loop(connect_stdio(here, target, *streams)), interactive=not json)


@app.command(epilog="Example: curl $(gloam knock wiki) http://wiki/")
def knock(resource: ResourceArgument, state: StateOption = None, json: JsonOption = False) -> None:
    """Knock at the resource's gateway and print the options curl needs to go through it."""
    import shlex

    from client.knock import knock as knock_at
    from client.reach import parse_target

    done = asyncio.run(knock_at(enrolled(state), parse_target(resource)))
    document = {
        "gateway": done.gateway,
        "proxy": done.proxy,
        "cacert": done.authorities,
        "cert": done.certificate,
        "key": done.key,
        "resource": done.resource,
        "port": done.port,
        "options": done.options(),
    }
    # Quotes survive `$(gloam knock …)`, where the brackets of an IPv6 proxy need none.
    words = " ".join(each if each == done.proxy else shlex.quote(each) for each in done.options())
    Output(json=json).show(document, lambda console: console.print(words, soft_wrap=True))


@app.command(epilog="Example: gloam logout")
def logout(state: StateOption = None, json: JsonOption = False) -> None:
    """End the session and the agent."""
    from client.ask import log_out

    told = asyncio.run(log_out(enrolled(state)))
    sentences = {
        True: "Logged out.",
        None: "Nobody was logged in.",
        False: "Logged out here; the controller could not be told, so the session ends there by itself.",
    }
    Output(json=json).show({"logged_out": told is not None, "told": bool(told)}, lambda c: c.print(sentences[told]))


@app.command(hidden=True)
def agent(
    state: StateOption = None,
    ready: Annotated[
        int | None, typer.Option("--ready", hidden=True, help="A descriptor told once calls are taken.")
    ] = None,
) -> None:
    """Run the background agent of one state directory (login starts it)."""
    from client.agent.life import run_agent
    from client.config import ClientSettings
    from console.settings import load_settings

    here = enrolled(state)
    run_agent(here, ready, load_settings(ClientSettings, here.config, os.environ).log_level)


app.add_typer(account)


def main() -> None:
    """Run the command line."""
    _add_commands_from_above(sys.argv[1:2])
    run(app, PROG)


def _add_commands_from_above(first: list[str]) -> None:
    """Adds the commands that live above the roles (the demo): they register themselves, we never import them by name.

    Loaded only where one of them is wanted or all are listed, so that other commands start fast.
    """
    listing = not first or first == ["--help"]
    for entry in entry_points(group=COMMANDS_GROUP):
        if listing or first == [entry.name]:
            app.command(name=entry.name)(entry.load())


if __name__ == "__main__":
    main()
