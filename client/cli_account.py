"""`gloam password`, `backup-codes`, `authenticator`: reads options; account.py does it."""

from typing import Annotated

import typer

from client.cli_options import (
    JsonOption,
    OtpOption,
    PasswordStdinOption,
    QrOption,
    StateOption,
    asking_of,
    enrolled,
)
from console.output import Output

account = typer.Typer()


@account.command(
    epilog='Example: gloam password   or: printf \'%s\\n\' "$OLD" "$NEW" | gloam password --password-stdin --otp 123456'
)
def password(
    otp: OtpOption = None,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Standard input is the old password, then the new one, a line each."),
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Change my password."""
    from client.account import new_password

    here = enrolled(state)
    new_password(here, asking_of(here, None, otp, password_stdin=password_stdin, json=json), Output(json=json))


@account.command("backup-codes", epilog="Example: gloam backup-codes")
def backup_codes(
    otp: OtpOption = None,
    password_stdin: PasswordStdinOption = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Make ten new backup codes, shown once; the old ones count no more."""
    from client.account import new_backup_codes

    here = enrolled(state)
    new_backup_codes(here, asking_of(here, None, otp, password_stdin=password_stdin, json=json), Output(json=json))


@account.command(epilog="Example: gloam authenticator   or: gloam authenticator --qr-png new.png")
def authenticator(
    otp: OtpOption = None,
    password_stdin: PasswordStdinOption = False,
    qr_png: QrOption = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="CODE", help="A code of the new one, shown before.")
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Set up another authenticator; a code of the old one, or a backup code, is needed once more."""
    from client.account import new_authenticator

    here = enrolled(state)
    asking = asking_of(here, None, otp, password_stdin=password_stdin, json=json, qr_png=qr_png)
    new_authenticator(here, asking, Output(json=json), confirm=confirm)
