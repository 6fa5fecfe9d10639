"""Asking the agent: its answer, or an error that says what to do."""

from typing import Final

from client.agent.messages import Answer, Call, LogoutAnswer, LogoutCall, Problem, StatusAnswer, StatusCall
from client.agent.process import call_agent
from client.agent.socket import NoAgent
from client.state import ClientState
from console.errors import CommandError, ExitCode

CALL_DEADLINE: Final = 15.0
"""Seconds for the agent's answer: it may ask the controller."""


class Denied(CommandError):  # noqa: N818 - reads as what it is
    """A decision of the controller said no; `reason` is its code."""

    def __init__(self, what: str, fix: str, reason: str) -> None:
        super().__init__(what, fix, ExitCode.DENIED)
        self.reason = reason


def raise_problem(answer: Answer) -> None:
    """Raises the CommandError that an agent's Problem stands for."""
    if isinstance(answer, Problem):
        if answer.code is not None:
            raise Denied(answer.what, answer.fix, answer.code)
        raise CommandError(answer.what, answer.fix, ExitCode(answer.exit))


async def ask_session(state: ClientState, asked: Call) -> Answer:
    """The agent's answer where a session is needed; an agent is started only to take up one on the disk."""
    try:
        answer = await call_agent(state, asked, deadline=CALL_DEADLINE, start=state.logged_in)
    except NoAgent:
        raise not_logged_in(state) from None
    raise_problem(answer)
    return answer


def not_logged_in(state: ClientState) -> CommandError:
    """Why there is no session."""
    ended = state.ended()
    if ended is None:
        return CommandError("you are not logged in", "run gloam login")
    code = ExitCode.FAILED if ended.code == "expired" else ExitCode.DENIED
    return CommandError(f"your session has ended: {ended.sentence}", ended.helps, code)


def no_session(state: ClientState, answer: StatusAnswer | None) -> CommandError:
    """Why there is no session to look at: none at all, or one the controller has not described yet."""
    if answer is None or not answer.resuming:
        return not_logged_in(state)
    reason = answer.problem or "the controller has not answered yet"
    return CommandError(
        f"the session cannot be taken up again: {reason}", "try again, or log in again", ExitCode.UNREACHABLE
    )


async def ask_status(state: ClientState) -> StatusAnswer | None:
    """The agent's state; None where none runs and there is no session on the disk to take up."""
    try:
        answer = await call_agent(state, StatusCall(), deadline=CALL_DEADLINE, start=state.logged_in)
    except NoAgent:
        return None
    raise_problem(answer)
    return answer if isinstance(answer, StatusAnswer) else None


async def log_out(state: ClientState) -> bool | None:
    """Ends session and agent: whether the controller confirmed it; None if there was nothing to end."""
    try:
        answer = await call_agent(state, LogoutCall(), deadline=CALL_DEADLINE, start=state.logged_in)
    except NoAgent:
        return None
    raise_problem(answer)
    return answer.told if isinstance(answer, LogoutAnswer) else False
