"""`gloam login`: asks for what is missing, hands it to the agent, shows what the controller wants next.

Laws:

1. A password comes from a prompt without echo or from standard input, never from the command line.
2. Where nobody can be asked (no terminal, or `--json`), what is missing is an error that names the option.
3. The authenticator's secret is shown as a QR code and as text at each login until a code of it was accepted, and kept
   nowhere here.
4. People are asked outside the event loop: inside it, ^C would only mark a task as cancelled and the prompt stay.
"""

import asyncio
import io
import sys
from dataclasses import dataclass
from typing import Final

import segno
import typer

from client.agent.messages import LoginAnswer, LoginCall
from client.agent.process import call_agent
from client.ask import raise_problem
from client.report import session_document, tell_session
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
from wire.messages import SessionView

LOGIN_DEADLINE: Final = 60.0
"""Seconds for the agent's answer: every controller of the profile may be tried."""
ROUNDS: Final = 3
"""A login needs at most a password, then a code; the controller could ask for ever."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What was given on the command line, and whether a person can be asked for the rest."""

    user: str | None
    otp: str | None
    password_stdin: bool
    interactive: bool


def login(state: ClientState, asking: Asking, output: Output) -> None:
    """Logs in. Raises CommandError with what is missing or wrong."""
    user = asking.user or state.profile().user
    password = _password(asking, user)
    otp = asking.otp
    for _round in range(ROUNDS):
        answer = asyncio.run(_ask(state, user, password, otp))
        match answer.status:
            case "done":
                _show_session(output, answer.session)
                return
            case "refused":
                fix = answer.fix or "check the user name and the password"
                raise CommandError(answer.sentence or "the login was refused", fix)
            case "totp_enrolment":
                _show_authenticator(output, answer, interactive=asking.interactive)
            case "otp_needed":
                pass
        if otp is not None and answer.status == "otp_needed":
            raise CommandError(answer.sentence or "the code was not accepted", answer.fix or "wait for the next code")
        otp = _otp(asking)
    raise CommandError("the controller keeps asking for a code", "ask the administrator")


def _show_session(output: Output, view: SessionView | None) -> None:
    document = {"status": "done", **session_document(view)} if view is not None else {"status": "done"}
    output.show(document, lambda console: tell_session(console, view))


async def _ask(state: ClientState, user: str, password: str, otp: str | None) -> LoginAnswer:
    try:
        asked = LoginCall(user=user, password=password, otp=otp)
    except ValueError:
        # pydantic's own message would show the value, which may be the password
        what = "the user name, the password or the code has a form that no user has"
        raise CommandError(what, "check them", ExitCode.USAGE) from None
    answer = await call_agent(state, asked, deadline=LOGIN_DEADLINE, start=True)
    raise_problem(answer)
    if not isinstance(answer, LoginAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    return answer


def _password(asking: Asking, user: str) -> str:
    if asking.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif asking.interactive:
        password = typer.prompt(f"Password of {user}", hide_input=True, err=True)
    else:
        raise CommandError("there is no terminal to ask for the password at", "add --password-stdin", ExitCode.USAGE)
    if not password:
        raise CommandError("the password is empty", "type it, or give it on the first line of standard input")
    return password


def _otp(asking: Asking) -> str:
    if not asking.interactive:
        raise CommandError("a code of the authenticator is needed", "add --otp CODE")
    code: str = typer.prompt("Code of the authenticator", err=True)
    return code.replace(" ", "")


def _show_authenticator(output: Output, answer: LoginAnswer, *, interactive: bool) -> None:
    uri = answer.totp_uri or ""
    if not interactive:
        output.show({"status": "totp_enrolment", "totp_uri": uri}, lambda console: console.print(uri))
        return
    drawn = io.StringIO()
    segno.make(uri, error="l", micro=False).terminal(out=drawn, compact=True, border=2)
    # segno draws with the terminal's own colours, so it goes past the console that would escape them.
    sys.stdout.write(f"Scan this with an authenticator app, once:\n\n{drawn.getvalue()}\n")
    sys.stdout.flush()
    output.say(f"or give it this text: {uri}")
