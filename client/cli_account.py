"""`gloam password`, `backup-codes`, `authenticator`: reads options; account.py does it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli_options import (
    DeviceCodeOption,
    JsonOption,
    NoBrowserOption,
    OidcOption,
    OtpOption,
    PasskeyOption,
    PasswordStdinOption,
    ProviderOption,
    QrOption,
    StateOption,
    asking_of,
    enrolled,
    provider_of,
)
from console.output import Output

if TYPE_CHECKING:
    from client.proofs import Asking
    from client.state import ClientState

account = typer.Typer()


def _asking(
    here: "ClientState", otp: str | None, *, provider: str | None, oidc: bool, device_code: bool, **options: Any
) -> "Asking":
    """What was given, by whatever way a login knows; at a provider the person proves it anew."""
    at = provider_of(provider, oidc=oidc, device_code=device_code, fresh=True)
    return replace(asking_of(here, None, otp, at_provider=at, **options), done="It is proved.")


@account.command(
    epilog='Example: gloam password   or: printf \'%s\\n\' "$OLD" "$NEW" | gloam password --password-stdin --otp 123456'
)
def password(
    otp: OtpOption = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Standard input is the old password (not with --passkey, --oidc), then the new one, a line each.",
        ),
    ] = False,
    passkey: PasskeyOption = False,
    oidc: OidcOption = False,
    provider: ProviderOption = None,
    device_code: DeviceCodeOption = False,
    no_browser: NoBrowserOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Change my password."""
    from client.account import new_password

    here = enrolled(state)
    asking = _asking(
        here, otp, password_stdin=password_stdin, json=json, passkey=passkey, no_browser=no_browser,
        provider=provider, oidc=oidc, device_code=device_code,
    )  # fmt: skip
    new_password(here, asking, Output(json=json))


@account.command("backup-codes", epilog="Example: gloam backup-codes")
def backup_codes(
    otp: OtpOption = None,
    password_stdin: PasswordStdinOption = False,
    passkey: PasskeyOption = False,
    oidc: OidcOption = False,
    provider: ProviderOption = None,
    device_code: DeviceCodeOption = False,
    no_browser: NoBrowserOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Make ten new backup codes, shown once; the old ones count no more."""
    from client.account import new_backup_codes

    here = enrolled(state)
    asking = _asking(
        here, otp, password_stdin=password_stdin, json=json, passkey=passkey, no_browser=no_browser,
        provider=provider, oidc=oidc, device_code=device_code,
    )  # fmt: skip
    new_backup_codes(here, asking, Output(json=json))


@account.command(epilog="Example: gloam authenticator   or: gloam authenticator --qr-png new.png")
def authenticator(
    otp: OtpOption = None,
    password_stdin: PasswordStdinOption = False,
    qr_png: QrOption = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="CODE", help="A code of the new one, shown before.")
    ] = None,
    passkey: PasskeyOption = False,
    oidc: OidcOption = False,
    provider: ProviderOption = None,
    device_code: DeviceCodeOption = False,
    no_browser: NoBrowserOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Set up another authenticator; what a login takes is needed once more."""
    from client.account import new_authenticator

    here = enrolled(state)
    asking = _asking(
        here, otp, password_stdin=password_stdin, json=json, qr_png=qr_png, passkey=passkey, no_browser=no_browser,
        provider=provider, oidc=oidc, device_code=device_code,
    )  # fmt: skip
    new_authenticator(here, asking, Output(json=json), confirm=confirm)
