"""`gloam login`: hands the agent what the person proves, until the controller has enough for a session."""

import os
from typing import Final

from rich.console import Console

from client.agent.messages import LoginAnswer, LoginCall
from client.agent.process import call_agent
from client.ask import raise_problem
from client.oidc import beforehand
from client.proofs import Asking, bad_form, converse
from client.report import backup_codes_document, session_document, tell_backup_codes, tell_session
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
from wire.messages import Proof

LOGIN_DEADLINE: Final = 60.0
"""Seconds for the agent's answer: every controller of the profile may be tried."""


def login(state: ClientState, asking: Asking, output: Output, *, step_up: bool = False) -> None:
    """Logs in, or proves a second factor again for the live session. Raises CommandError."""
    try:
        _login(state, asking, output, step_up=step_up)
    except CommandError as error:
        ended = state.ended()
        if error.code is not ExitCode.UNREACHABLE or ended is None or not ended.revoked:
            raise
        # It was told so by a controller that proved who it is, and no controller answers such a device again.
        raise CommandError(f"{ended.sentence}, and is not answered any more", ended.helps, error.code) from error


def _login(state: ClientState, asking: Asking, output: Output, *, step_up: bool) -> None:

    async def ask(proofs: tuple[Proof, ...]) -> LoginAnswer:
        return await _ask(state, asking.user, proofs, step_up=step_up)

    if not asking.user and asking.at_provider is None:
        raise CommandError("this device is nobody's yet", "run gloam login --oidc: who logs in first owns it")
    answer = converse(state, ask, asking, output, beforehand(state, asking, os.environ))
    view = answer.session
    if view is not None:
        state.save_owner(view.user)
    document = {
        "status": "done",
        "stepped_up": step_up,
        **({} if view is None else session_document(view)),
        **backup_codes_document(answer.backup_codes),
    }

    def tell(console: Console) -> None:
        if answer.backup_codes:
            tell_backup_codes(console, answer.backup_codes)
        tell_session(console, view, stepped_up=step_up)

    output.show(document, tell)


async def _ask(state: ClientState, user: str, proofs: tuple[Proof, ...], *, step_up: bool) -> LoginAnswer:
    try:
        asked = LoginCall(user=user or None, proofs=proofs, step_up=step_up)
    except ValueError:
        raise bad_form() from None
    answer = await call_agent(state, asked, deadline=LOGIN_DEADLINE, start=not step_up or state.logged_in)
    raise_problem(answer)
    if not isinstance(answer, LoginAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    return answer
