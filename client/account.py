"""`gloam password`, `gloam backup-codes`, `gloam authenticator`: people change how they prove who they are.

Each asks the controller itself, with the device's certificate; no session is needed, and the agent has no part in it.
"""

import asyncio
import os
from dataclasses import replace
from typing import Final

import typer

from client.authenticator import show_authenticator
from client.controllers import Controllers, RefusedByController
from client.dial import CannotReach
from client.oidc import beforehand
from client.proofs import Asker, Asking, bad_form, converse
from client.report import backup_codes_document, tell_backup_codes
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
from console.piped import piped_line
from console.typed import typed_twice
from wire.messages import (
    AccountChange,
    AccountReply,
    AccountRequest,
    ConfirmAuthenticator,
    NewAuthenticator,
    NewBackupCodes,
    NewPassword,
    Proof,
)

NOT_OFFERED: Final = "authenticator_not_offered"
"""The controller's code where there is nothing to confirm any more."""


def new_backup_codes(state: ClientState, asking: Asking, output: Output) -> None:
    """Ten new backup codes, shown once. Raises CommandError."""
    proofs = beforehand(state, asking, os.environ)
    reply = converse(state, _asker(state, asking.user, NewBackupCodes()), asking, output, proofs)
    document = {"status": "done", **backup_codes_document(reply.backup_codes)}
    output.show(document, lambda console: tell_backup_codes(console, reply.backup_codes))


def new_password(state: ClientState, asking: Asking, output: Output) -> None:
    """Another password; from standard input, the old one is the first line and the new one the second.

    Whoever proves it elsewhere, by a passkey or at a provider, gives the new one alone.
    """
    elsewhere = asking.passkey or asking.at_provider is not None
    proofs = beforehand(state, replace(asking, password_stdin=asking.password_stdin and not elsewhere), os.environ)
    converse(state, _asker(state, asking.user, _chosen(asking)), asking, output, proofs)
    output.show({"status": "done"}, lambda console: console.print("The password is changed."))


def new_authenticator(state: ClientState, asking: Asking, output: Output, *, confirm: str | None) -> None:
    """Another authenticator; `confirm` is a code of one that was shown before. Raises CommandError."""
    if confirm is None:
        proofs = beforehand(state, asking, os.environ)
        reply = converse(state, _asker(state, asking.user, NewAuthenticator()), asking, output, proofs)
        uri = reply.totp_uri or ""
        if not asking.interactive:
            show_authenticator(uri, output, asking.qr_png, drawn=False)
            fix = "set it up, then: gloam authenticator --confirm CODE"
            output.show({"status": "confirm", "totp_uri": uri, "fix": fix}, lambda _console: output.say(f"Next: {fix}"))
            return
        show_authenticator(uri, output, asking.qr_png)
        confirm = str(typer.prompt("Code of the new authenticator", err=True))
    _confirm(state, asking.user, confirm)
    output.show(
        {"status": "done"}, lambda console: console.print("The new authenticator counts; the old one does not.")
    )


def _confirm(state: ClientState, user: str, typed: str) -> None:
    """Has the new authenticator count. What was proved for it is used up, so an error says how to go on from here."""
    try:
        change = ConfirmAuthenticator(code=typed.replace(" ", ""))
        reply = asyncio.run(_asker(state, user, change)(()))
    except ValueError:
        raise _go_on(bad_form()) from None
    except CommandError as error:
        raise _go_on(error) from error
    if reply.status != "done":
        refused = CommandError(reply.sentence or "the controller refused", reply.fix or "check what you typed")
        raise refused if reply.code == NOT_OFFERED else _go_on(refused)


def _go_on(error: CommandError) -> CommandError:
    return CommandError(error.what, f"{error.fix}; within ten minutes: gloam authenticator --confirm CODE", error.code)


def _chosen(asking: Asking) -> NewPassword:
    if asking.password_stdin:
        chosen = piped_line()
    elif asking.interactive:
        chosen = typed_twice("New password")
    else:
        raise CommandError(
            "there is no terminal to ask for the new password at", "add --password-stdin", ExitCode.USAGE
        )
    try:
        return NewPassword(password=chosen)
    except ValueError:
        raise bad_form() from None


def _asker(state: ClientState, user: str, change: AccountChange) -> Asker[AccountReply]:
    async def ask(proofs: tuple[Proof, ...]) -> AccountReply:
        try:
            request = AccountRequest(user=user, proofs=proofs, change=change)
        except ValueError:
            raise bad_form() from None
        return await _request(state, request)

    return ask


async def _request(state: ClientState, request: AccountRequest) -> AccountReply:
    try:
        return await Controllers(state, state.profile(), state.clock()).account(request)
    except CannotReach as error:
        raise CommandError(str(error), error.fix, ExitCode.UNREACHABLE) from error
    except RefusedByController as error:
        raise CommandError(error.refusal.sentence, error.refusal.fix or "ask the administrator") from error
