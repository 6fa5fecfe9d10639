"""Options that several commands of `gloam` have, and where they lead."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.errors import CommandError, ExitCode
from console.state import state_directory

if TYPE_CHECKING:
    from client.proofs import Asking, AtProvider
    from client.state import ClientState

StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The state directory; each one is a device of its own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document for machines.")]
NoBrowserOption = Annotated[
    bool, typer.Option("--no-browser", help="Open no browser; print the address to open in one.")
]
UserArgument = Annotated[
    str | None,
    typer.Argument(metavar="[USER]", help="Who; the device's owner if not given. With --oidc: the provider."),
]
OtpOption = Annotated[
    str | None, typer.Option("--otp", metavar="CODE", help="The authenticator's code, or a backup code.")
]
PasskeyOption = Annotated[bool, typer.Option("--passkey", help="Use a passkey or security key, in your browser.")]
OidcOption = Annotated[bool, typer.Option("--oidc", help="Prove it at an identity provider, in your browser.")]
DeviceCodeOption = Annotated[
    bool, typer.Option("--device-code", help="With --oidc: in a browser on any other machine.")
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="With --oidc: which one, if there are several.")
]
QrOption = Annotated[
    Path | None, typer.Option("--qr-png", metavar="FILE", help="Write the QR code of a new authenticator to FILE.")
]
PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="The password is the first line of standard input.")
]


def asking_of(
    here: "ClientState",
    user: str | None,
    otp: str | None,
    *,
    password_stdin: bool,
    json: bool,
    qr_png: Path | None = None,
    passkey: bool = False,
    no_browser: bool = False,
    at_provider: "AtProvider | None" = None,
) -> "Asking":
    """What was given, and whether somebody sits there to be asked for the rest."""
    from client.proofs import Asking

    return Asking(
        passkey=passkey,
        browser=not no_browser,
        at_provider=at_provider,
        user=user or here.profile().user,
        otp=otp,
        password_stdin=password_stdin,
        interactive=not json and not password_stdin and sys.stdin.isatty(),
        qr_png=qr_png,
    )


def provider_of(name: str | None, *, oidc: bool, device_code: bool, fresh: bool) -> "AtProvider | None":
    """Where else it is to be proved, if anywhere. Raises CommandError."""
    from client.proofs import AtProvider

    if device_code and not oidc:
        raise CommandError("--device-code is a way to prove it at a provider", "add --oidc", ExitCode.USAGE)
    return AtProvider(name, device_code, fresh) if oidc else None


def state_of(option: Path | None) -> "ClientState":
    """The state directory an option names, or the usual one."""
    from client.state import ClientState

    return ClientState(state_directory(option, "client", os.environ))


def enrolled(option: Path | None) -> "ClientState":
    """The same, where a device is enrolled. Raises CommandError."""
    state = state_of(option)
    state.profile()
    return state
