"""`gloam login`: a conversation. The controller says what it would accept, the person gives it, until one is done.

Laws:

1. A password comes from a prompt without echo or from standard input, never from the command line.
2. Where nobody can be asked (no terminal, or `--json`), what is missing is an error that names the option.
3. The authenticator's secret is shown as a QR code and as text at each login until a code of it was accepted, and kept
   nowhere here.
4. People are asked outside the event loop: inside it, ^C would only mark a task as cancelled and the prompt stay.
5. What was given on the command line is offered once: what the controller still asks for is asked of the person.
6. A passkey is asked for in the person's browser (client/passkey), when they want it or when nothing else is left.
"""

import asyncio
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import segno
import typer

from client import oidc
from client.agent.messages import LoginAnswer, LoginCall
from client.agent.process import call_agent
from client.ask import raise_problem
from client.report import session_document, tell_session
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
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
    SessionView,
    TotpEnrolmentAsk,
)

LOGIN_DEADLINE: Final = 60.0
"""Seconds for the agent's answer: every controller of the profile may be tried."""
ROUNDS: Final = 5
"""A login needs a password, then a code; the controller could ask for ever."""
_SPACES: Final = re.compile(r"[\s-]")
_CODE: Final = re.compile(r"\A[0-9]{0,8}\Z")  # anything else is meant as a backup code


@dataclass(frozen=True, slots=True)
class AtProvider:
    """At an identity provider, of that name or the only one; with a browser here, or by a code typed anywhere."""

    name: str | None
    device_code: bool


@dataclass(frozen=True, slots=True)
class Asking:
    """What was given on the command line, and whether a person can be asked for the rest.

    `passkey` is wanted rather than anything else; `browser` may be opened.
    """

    user: str | None
    otp: str | None
    password_stdin: bool
    interactive: bool
    passkey: bool = False
    browser: bool = True
    at_provider: AtProvider | None = None


def login(state: ClientState, asking: Asking, output: Output) -> None:
    """Logs in. Raises CommandError with what is missing or wrong."""
    user = asking.user or state.profile().user
    if not user and asking.at_provider is None:
        raise CommandError("this device is nobody's yet", "run gloam login --oidc: who logs in first owns it")
    proofs = _given(state, asking)
    answer = asyncio.run(_ask(state, user, proofs))
    for _round in range(ROUNDS):
        match answer.status:
            case "done":
                if answer.session is not None:
                    state.save_owner(answer.session.user)
                _show_session(output, answer.session)
                return
            case "refused":
                fix = answer.fix or "check the user name and the password"
                raise CommandError(answer.sentence or "the login was refused", fix)
            case "more":
                proved = _prove(answer, asking, user, output)
                if isinstance(proved, PasskeyAsk):
                    answer = _by_passkey(state, user, proofs, proved, asking)
                    continue
                proofs = [*proofs, proved]
                answer = asyncio.run(_ask(state, user, proofs))
            case _ as never:  # pragma: no cover
                assert_never(never)
    raise CommandError("the controller keeps asking for more", "ask the administrator")


def _given(state: ClientState, asking: Asking) -> list[Proof]:
    """The proofs that need no asking here; what a provider says comes from there."""
    proofs: list[Proof] = []
    if (at := asking.at_provider) is not None:
        proofs.append(oidc.prove(state, at.name, device_code=at.device_code, browser=asking.browser, fresh=False))
    if asking.password_stdin:
        proofs.append(_password(sys.stdin.readline().rstrip("\r\n")))
    if asking.otp is not None:
        proofs.append(_code(asking.otp))
    return proofs


def _prove(answer: LoginAnswer, asking: Asking, user: str, output: Output) -> Proof | PasskeyAsk:
    """One more proof, by the first of the asks, or the passkey the person wants to use instead."""
    passkey = next((each for each in answer.asks if isinstance(each, PasskeyAsk)), None)
    if asking.passkey:
        if passkey is None:
            raise CommandError(f"{user} has no passkey here", "log in without --passkey, then run gloam passkey add")
        return passkey
    if not asking.interactive:
        raise _missing(answer.asks, output)
    if not answer.asks:
        raise CommandError(answer.sentence or "nothing more would be accepted", answer.fix or "ask the administrator")
    codes = any(isinstance(each, BackupCodeAsk) for each in answer.asks)
    match answer.asks[0]:
        case PasswordAsk():
            return _password_or(passkey, user)
        case TotpEnrolmentAsk(uri=uri):
            _show_authenticator(uri, output)
            return _code(typer.prompt("Code of the authenticator", err=True))
        case OtpAsk():
            other = " (or a backup code)" if codes else ""
            return _code(typer.prompt(f"Code of the authenticator{other}", err=True))
        case BackupCodeAsk():
            return _code(typer.prompt("Backup code", err=True))
        case PasskeyAsk() as ask:
            return ask
        case _ as never:  # pragma: no cover
            assert_never(never)


def _password_or(passkey: PasskeyAsk | None, user: str) -> Proof | PasskeyAsk:
    """The password; or the passkey, for whoever has one and types nothing."""
    if passkey is None:
        return _password(typer.prompt(f"Password of {user}", hide_input=True, err=True))
    told = f"Password of {user} (only Enter: a passkey, in your browser)"
    text = typer.prompt(told, default="", show_default=False, hide_input=True, err=True)
    return _password(text) if text else passkey


def _missing(asks: Sequence[Ask], output: Output) -> CommandError:
    """What somebody who cannot be asked has to give; the document on standard output has all of it."""
    output.show({"status": "more", "asks": [ask.model_dump() for ask in asks]}, lambda _console: None)
    match asks[0] if asks else None:
        case PasswordAsk():
            return CommandError(
                "there is no terminal to ask for the password at", "add --password-stdin", ExitCode.USAGE
            )
        case TotpEnrolmentAsk(uri=uri):
            output.say(uri)
            return CommandError("a code of the new authenticator is needed", "set it up, then add --otp CODE")
        case OtpAsk() | BackupCodeAsk():
            return CommandError("a code of the authenticator is needed", "add --otp CODE")
        case PasskeyAsk():
            return CommandError("a passkey is needed", "add --passkey")
        case None:
            return CommandError("nothing more would be accepted", "ask the administrator")
        case _ as never:  # pragma: no cover
            assert_never(never)


def _by_passkey(state: ClientState, user: str, proofs: Sequence[Proof], ask: PasskeyAsk, asking: Asking) -> LoginAnswer:
    """What the controller says to the passkey that the person uses in their browser."""
    from client.passkey.ceremony import ask_login

    answers: list[LoginAnswer] = []

    async def judge(proof: PasskeyProof) -> str:
        answer = await _ask(state, user, [*proofs, proof])
        if answer.status == "refused":
            raise CommandError(answer.sentence or "the login was refused", answer.fix or "try again")
        answers.append(answer)
        return "You are logged in." if answer.status == "done" else "Your passkey counts. Go on in the terminal."

    asyncio.run(ask_login(state, ask, user, judge, browser=asking.browser))
    return answers[0]


def _show_session(output: Output, view: SessionView | None) -> None:
    document = {"status": "done", **session_document(view)} if view is not None else {"status": "done"}
    output.show(document, lambda console: tell_session(console, view))


async def _ask(state: ClientState, user: str, proofs: Sequence[Proof]) -> LoginAnswer:
    try:
        asked = LoginCall(user=user or None, proofs=tuple(proofs))
    except ValueError:
        raise _bad_form() from None
    answer = await call_agent(state, asked, deadline=LOGIN_DEADLINE, start=True)
    raise_problem(answer)
    if not isinstance(answer, LoginAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    return answer


def _bad_form() -> CommandError:
    """Instead of pydantic's own message, which would show the value, and that may be the password."""
    what = "the user name, the password or the code has a form that no user has"
    return CommandError(what, "check them", ExitCode.USAGE)


def _password(text: str) -> Proof:
    if not text:
        raise CommandError("the password is empty", "type it, or give it on the first line of standard input")
    try:
        return PasswordProof(password=text)
    except ValueError:
        raise _bad_form() from None


def _code(text: str) -> Proof:
    """The proof in a code as people type it: with spaces, and perhaps a backup code."""
    code = _SPACES.sub("", text)
    try:
        return OtpProof(code=code) if _CODE.match(code) else BackupCodeProof(code=code)
    except ValueError:
        raise _bad_form() from None


def _show_authenticator(uri: str, output: Output) -> None:
    drawn = io.StringIO()
    segno.make(uri, error="l", micro=False).terminal(out=drawn, compact=True, border=2)
    # segno draws with the terminal's own colours, so it goes past the console that would escape them.
    sys.stdout.write(f"Scan this with an authenticator app, once:\n\n{drawn.getvalue()}\n")
    sys.stdout.flush()
    output.say(f"or give it this text: {uri}")
