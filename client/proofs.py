"""What a person gives to prove who they are: from options, standard input, the environment, or at the terminal.

Laws:

1. A password comes from a prompt without echo, from standard input or from the environment, never from an argument.
2. Where nobody can be asked (no terminal, or `--json`), what is missing is an error that names the option.
3. People are asked outside the event loop: inside it, ^C would only mark a task as cancelled and the prompt stay.
4. What was given beforehand is offered once: what the controller still asks for is asked of the person.
5. A passkey is asked for in the person's browser (client/passkey), when they want it or when nothing else is left.
6. Whoever takes a secret from the environment is warned: other programs of theirs can read it.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, assert_never

import typer

from client.authenticator import show_authenticator
from client.config import OTP_VARIABLE, PASSWORD_VARIABLE
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
from console.piped import piped_line
from wire.messages import (
    Ask,
    BackupCodeAsk,
    BackupCodeProof,
    OtpAsk,
    OtpProof,
    PasskeyAsk,
    PasskeyProof,
    PasswordAsk,
    PasswordProof,
    Proof,
    TotpEnrolmentAsk,
)

ROUNDS: Final = 5
"""A login needs a password, then a code; the controller could ask for ever."""
_SPACES: Final = re.compile(r"[\s-]")
_CODE: Final = re.compile(r"\A[0-9]{0,8}\Z")  # anything else is meant as a backup code


@dataclass(frozen=True, slots=True)
class AtProvider:
    """At an identity provider, of that name or the only one; with a browser here, or by a code typed anywhere.

    `fresh`: the person is to prove themselves there anew.
    """

    name: str | None
    device_code: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Asking:
    """What was given on the command line, and whether a person can be asked for the rest.

    `passkey` is wanted rather than anything else; `browser` may be opened, and says `done` in the end.
    """

    user: str
    otp: str | None = None
    password_stdin: bool = False
    interactive: bool = False
    qr_png: Path | None = None
    passkey: bool = False
    browser: bool = True
    at_provider: AtProvider | None = None
    done: str = "You are logged in."


class Reply(Protocol):
    """What the controller answers to proofs, whatever they are for."""

    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def asks(self) -> tuple[Ask, ...]: ...  # noqa: D102
    @property
    def sentence(self) -> str: ...  # noqa: D102
    @property
    def fix(self) -> str: ...  # noqa: D102


R = TypeVar("R", bound=Reply)
Asker = Callable[[tuple[Proof, ...]], Coroutine[Any, Any, R]]
"""Hands all proofs so far to the controller."""


def converse(state: ClientState, ask: Asker[R], asking: Asking, output: Output, proofs: tuple[Proof, ...] = ()) -> R:
    """The controller's answer once it is `done`; `proofs` are there already. Raises CommandError."""
    reply = _accepted(asyncio.run(ask(proofs)))
    for _round in range(ROUNDS):
        if reply.status == "done":
            return reply
        offered = {proof.type for proof in proofs}
        proved = _prove([each for each in reply.asks if each.type not in offered], asking, output)
        if isinstance(proved, PasskeyAsk):
            reply = _by_passkey(state, ask, asking, proofs, proved)
            continue
        proofs = (*proofs, proved)
        reply = _accepted(asyncio.run(ask(proofs)))
    raise CommandError("the controller keeps asking for more", "ask the administrator")


def given(asking: Asking, environ: Mapping[str, str]) -> tuple[Proof, ...]:
    """The proofs that need no asking."""
    proofs: list[Proof] = []
    if asking.password_stdin:
        proofs.append(_password(piped_line()))
    elif variable := environ.get(PASSWORD_VARIABLE):
        _warn(PASSWORD_VARIABLE)
        proofs.append(_password(variable))
    if asking.otp is not None:
        proofs.append(_code(asking.otp))
    elif variable := environ.get(OTP_VARIABLE):
        _warn(OTP_VARIABLE)
        proofs.append(_code(variable))
    return tuple(proofs)


def bad_form() -> CommandError:
    """Instead of pydantic's own message, which would show the value, and that may be the password."""
    what = "the user name, the password or the code has a form that no user has"
    return CommandError(what, "check them", ExitCode.USAGE)


def _accepted(reply: R) -> R:
    if reply.status == "refused":
        raise CommandError(reply.sentence or "the controller refused", reply.fix or "check what you typed")
    return reply


def _prove(asks: Sequence[Ask], asking: Asking, output: Output) -> Proof | PasskeyAsk:
    """One more proof, by the first of the asks, or the passkey the person wants to use instead."""
    passkey = next((each for each in asks if isinstance(each, PasskeyAsk)), None)
    if asking.passkey:
        if passkey is None:
            fix = "log in without --passkey, then run gloam passkey add"
            raise CommandError(f"{asking.user} has no passkey here", fix)
        return passkey
    if not asking.interactive:
        raise _missing(asks, asking, output)
    codes = any(isinstance(each, BackupCodeAsk) for each in asks)
    match asks[0] if asks else None:
        case PasswordAsk():
            return _password_or(passkey, asking.user)
        case TotpEnrolmentAsk(uri=uri):
            show_authenticator(uri, output, asking.qr_png)
            return _code(typer.prompt("Code of the authenticator", err=True))
        case OtpAsk():
            other = " (or a backup code)" if codes else ""
            return _code(typer.prompt(f"Code of the authenticator{other}", err=True))
        case BackupCodeAsk():
            return _code(typer.prompt("Backup code", err=True))
        case PasskeyAsk() as ask:
            return ask
        case None:
            raise CommandError("the controller accepts nothing more", "ask the administrator")
        case _ as never:  # pragma: no cover
            assert_never(never)


def _password_or(passkey: PasskeyAsk | None, user: str) -> Proof | PasskeyAsk:
    """The password; or the passkey, for whoever has one and types nothing."""
    if passkey is None:
        return _password(typer.prompt(f"Password of {user}", hide_input=True, err=True))
    told = f"Password of {user} (only Enter: a passkey, in your browser)"
    text = typer.prompt(told, default="", show_default=False, hide_input=True, err=True)
    return _password(text) if text else passkey


def _by_passkey(
    state: ClientState, ask: Asker[R], asking: Asking, proofs: tuple[Proof, ...], challenge: PasskeyAsk
) -> R:
    """What the controller says to the passkey that the person uses in their browser."""
    from client.passkey.ceremony import ask_login

    replies: list[R] = []

    async def judge(proof: PasskeyProof) -> str:
        reply = _accepted(await ask((*proofs, proof)))
        replies.append(reply)
        return asking.done if reply.status == "done" else "Your passkey counts. Go on in the terminal."

    asyncio.run(ask_login(state, challenge, asking.user, judge, browser=asking.browser))
    return replies[0]


def _missing(asks: Sequence[Ask], asking: Asking, output: Output) -> CommandError:
    """What somebody who cannot be asked has to give; the document on standard output has all of it."""
    output.show({"status": "more", "asks": [ask.model_dump() for ask in asks]}, lambda _console: None)
    match asks[0] if asks else None:
        case PasswordAsk():
            what = "there is no terminal to ask for the password at"
            return CommandError(what, "add --password-stdin", ExitCode.USAGE)
        case TotpEnrolmentAsk(uri=uri):
            show_authenticator(uri, output, asking.qr_png, drawn=False)
            return CommandError("a code of the new authenticator is needed", "set it up, then add --otp CODE")
        case OtpAsk() | BackupCodeAsk():
            return CommandError("a code of the authenticator is needed", "add --otp CODE", ExitCode.USAGE)
        case PasskeyAsk():
            return CommandError("a passkey is needed", "add --passkey", ExitCode.USAGE)
        case None:
            return CommandError("the controller accepts nothing more", "ask the administrator")
        case _ as never:  # pragma: no cover
            assert_never(never)


def _password(text: str) -> Proof:
    if not text:
        raise CommandError("the password is empty", "type it, or give it on the first line of standard input")
    try:
        return PasswordProof(password=text)
    except ValueError:
        raise bad_form() from None


def _code(text: str) -> Proof:
    """The proof in a code as people type it: with spaces, and perhaps a backup code."""
    code = _SPACES.sub("", text)
    try:
        return OtpProof(code=code) if _CODE.match(code) else BackupCodeProof(code=code)
    except ValueError:
        raise bad_form() from None


def _warn(variable: str) -> None:
    sys.stderr.write(f"gloam: warning: {variable} is in the environment, where other programs of yours can read it\n")
    sys.stderr.flush()
