"""The agent in this process, against a controller of real sockets."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from client.agent.messages import (
    LoginAnswer,
    LoginCall,
    LogoutAnswer,
    LogoutCall,
    Problem,
    RouteAnswer,
    RouteCall,
    StatusAnswer,
    StatusCall,
)
from client.agent.service import Agent
from client.state import ClientState
from console.errors import ExitCode
from tests.client.perimeter import TOTP_URI, Perimeter
from wire.messages import (
    ExplainRequest,
    Logout,
    OtpProof,
    PasswordProof,
    Renew,
    Revoked,
    Session,
    StepUpNeeded,
    TotpEnrolmentAsk,
)

PASSWORD, OTP = PasswordProof(password="correct horse"), OtpProof(code="123456")
WRONG = PasswordProof(password="wrong")
LOGIN = LoginCall(user="ada", proofs=(PASSWORD, OTP))


@pytest.fixture
def state(perimeter: Perimeter, tmp_path: Path) -> ClientState:
    return perimeter.device_state(tmp_path / "state")


@contextlib.asynccontextmanager
async def running(state: ClientState) -> AsyncIterator[Agent]:
    agent = Agent(state, os.getpid())
    task = asyncio.create_task(agent.run())
    await asyncio.sleep(0)
    try:
        yield agent
    finally:
        agent.stop()
        await task


@pytest.fixture
async def agent(state: ClientState) -> AsyncIterator[Agent]:
    async with running(state) as made:
        yield made


async def until(agent: Agent, holds: Callable[[StatusAnswer], bool]) -> StatusAnswer:
    """Asks for the status until it is as wanted; the test's timeout is the limit."""
    while True:
        answer = await agent.handle(StatusCall())
        assert isinstance(answer, StatusAnswer)
        if holds(answer):
            return answer
        await asyncio.sleep(0.01)


async def test_login_gives_a_session_that_the_agent_attaches(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    answer = await agent.handle(LOGIN)
    assert isinstance(answer, LoginAnswer)
    assert answer.status == "done"
    assert answer.session is not None
    identity = state.session()
    assert identity is not None
    assert identity.name.id == str(answer.session.id)
    status = await until(agent, lambda each: each.connected)
    assert status.session is not None
    assert status.session.user == "ada"
    assert not status.problem


async def test_a_key_that_others_may_read_is_told_and_the_agent_lives_on(state: ClientState) -> None:
    """It may be mended at any moment; a renewal that cannot even read it must not take the agent with it."""
    key = state.directory / "device.key"
    key.chmod(0o644)
    async with running(state) as agent:
        await until(agent, lambda each: "may be read by others" in each.renewal_problem)
        answer = await agent.handle(LOGIN)
        assert isinstance(answer, Problem)
        assert "may be read by others" in answer.what
        key.chmod(0o600)
        assert isinstance(await agent.handle(LOGIN), LoginAnswer)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (LoginCall(user="ada", proofs=(WRONG,)), "refused"),
        (LoginCall(user="ada", proofs=(PASSWORD,)), "more"),
        (LoginCall(user="ada", proofs=(PASSWORD, OtpProof(code="000000"))), "refused"),
    ],
)
async def test_what_the_controller_says_to_a_login_is_passed_on(
    agent: Agent, state: ClientState, call: LoginCall, status: str
) -> None:
    answer = await agent.handle(call)
    assert isinstance(answer, LoginAnswer)
    assert answer.status == status
    assert state.session() is None


async def test_the_first_login_brings_the_authenticators_secret(perimeter: Perimeter, agent: Agent) -> None:
    perimeter.controller.answers.totp_enrolled = False
    answer = await agent.handle(LoginCall(user="ada", proofs=(PASSWORD,)))
    assert isinstance(answer, LoginAnswer)
    assert answer.asks == (TotpEnrolmentAsk(uri=TOTP_URI),)


async def test_an_unreachable_controller_is_named_with_the_step(perimeter: Perimeter, agent: Agent) -> None:
    await perimeter.controller.door.close()
    answer = await agent.handle(LOGIN)
    assert isinstance(answer, Problem)
    assert answer.exit == ExitCode.UNREACHABLE
    assert "controller main does not answer" in answer.what


async def test_routes_are_the_controllers_word(perimeter: Perimeter, agent: Agent) -> None:
    await agent.handle(LOGIN)
    found = await agent.handle(RouteCall(resource="wiki"))
    assert isinstance(found, RouteAnswer)
    assert [each.name for each in found.gateways] == ["edge", "spare"]
    perimeter.controller.answers.explained["vault"] = perimeter.wiki(
        name="vault", allowed=False, code="mfa_age", sentence="your login is 20 minutes old", fix="log in again"
    )
    await until(agent, lambda each: each.connected)
    denied = await agent.handle(RouteCall(resource="vault"))
    assert isinstance(denied, Problem)
    assert (denied.what, denied.fix, denied.exit) == ("your login is 20 minutes old", "log in again", ExitCode.DENIED)
    assert any(isinstance(each, ExplainRequest) for each in perimeter.controller.heard)


async def test_an_explanation_may_also_allow(perimeter: Perimeter, agent: Agent) -> None:
    await agent.handle(LOGIN)
    perimeter.controller.answers.explained["vault"] = perimeter.wiki(name="vault")
    await until(agent, lambda each: each.connected)
    assert isinstance(await agent.handle(RouteCall(resource="vault")), RouteAnswer)


async def test_what_cannot_be_asked_now_is_not_called_denied(perimeter: Perimeter, agent: Agent) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    await perimeter.controller.door.close()
    await perimeter.controller.sockets[-1].close()
    await until(agent, lambda each: not each.connected)
    unknown = await agent.handle(RouteCall(resource="payroll"))
    assert isinstance(unknown, Problem)
    assert "whether you may reach payroll cannot be asked now" in unknown.what
    assert unknown.exit == ExitCode.UNREACHABLE
    assert isinstance(await agent.handle(RouteCall(resource="wiki")), RouteAnswer)
    known = await agent.handle(RouteCall(resource="vault"))
    assert isinstance(known, Problem)
    assert known.exit == ExitCode.DENIED


async def test_no_session_no_route(agent: Agent) -> None:
    answer = await agent.handle(RouteCall(resource="wiki"))
    assert isinstance(answer, Problem)
    assert (answer.what, answer.exit) == ("you are not logged in", ExitCode.FAILED)


async def test_a_session_is_renewed_with_a_new_key_before_it_ends(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    perimeter.controller.answers.lifetime = timedelta(seconds=3)
    await agent.handle(LOGIN)
    first = state.session()
    assert first is not None
    await perimeter.controller.wait_for(Renew, 2)
    status = await until(agent, lambda each: each.connected and state.session() != first)
    second = state.session()
    assert second is not None
    assert second.name == first.name
    assert second.leaf.public_key() != first.leaf.public_key()
    assert status.session is not None
    assert status.session.valid_until > first.leaf.not_valid_after_utc


async def test_a_revoked_session_says_why_with_and_without_the_agent(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    await perimeter.controller.tell(Revoked(code="admin", sentence="revoked by root: left the company", fix="call HR"))
    status = await until(agent, lambda each: each.session is None)
    assert status.ended is not None
    assert status.ended.sentence == "revoked by root: left the company"
    assert state.session() is None
    kept = state.ended()
    assert kept is not None
    assert (kept.code, kept.fix) == ("admin", "call HR")
    answer = await agent.handle(RouteCall(resource="wiki"))
    assert isinstance(answer, Problem)
    assert answer.exit == ExitCode.DENIED
    assert "left the company" in answer.what


async def test_a_step_up_is_a_notice(perimeter: Perimeter, agent: Agent) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    await perimeter.controller.tell(
        StepUpNeeded(code="mfa_age", sentence="vault wants a fresh login", fix="log in again")
    )
    status = await until(agent, lambda each: each.notice is not None)
    assert status.notice is not None
    assert status.notice.sentence == "vault wants a fresh login"
    await perimeter.controller.tell(StepUpNeeded(code="provider_unreachable", sentence="it is back", fix=""))
    [view] = perimeter.controller.sessions.values()
    await perimeter.controller.tell(Session(session=view.model_copy(update={"backup_codes": 3})))
    status = await until(agent, lambda each: each.session is not None and each.session.backup_codes == 3)
    assert status.notice is not None  # what is settled is another matter
    await perimeter.controller.tell(StepUpNeeded(code="mfa_age", sentence="vault is content", fix=""))
    await until(agent, lambda each: each.notice is None)


async def test_a_lost_connection_is_taken_up_again(perimeter: Perimeter, agent: Agent) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    await perimeter.controller.sockets[-1].close()
    await until(agent, lambda each: len(perimeter.controller.sockets) == 2 and each.connected)


async def test_a_message_that_is_not_ours_costs_the_connection_not_the_session(
    perimeter: Perimeter, agent: Agent
) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    await perimeter.controller.sockets[-1].send_str('{"type": "gift", "what": "horse"}')
    status = await until(agent, lambda each: len(perimeter.controller.sockets) == 2 and each.connected)
    assert status.session is not None


async def test_a_session_the_controller_no_longer_knows_is_over(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    perimeter.controller.answers.attach_status = 404
    await agent.handle(LOGIN)
    status = await until(agent, lambda each: each.session is None)
    assert status.ended is not None
    assert state.session() is None


async def test_an_overloaded_controller_is_asked_again(perimeter: Perimeter, agent: Agent) -> None:
    perimeter.controller.answers.attach_status = 503
    await agent.handle(LOGIN)
    status = await until(agent, lambda each: bool(each.problem))
    assert status.session is not None
    perimeter.controller.answers.attach_status = 200
    await until(agent, lambda each: each.connected)


async def test_a_session_runs_out_when_nobody_renews_it(perimeter: Perimeter, state: ClientState, agent: Agent) -> None:
    perimeter.controller.answers.attach_status = 503
    perimeter.controller.answers.lifetime = timedelta(seconds=2)
    await agent.handle(LOGIN)
    status = await until(agent, lambda each: each.session is None)
    assert status.ended is not None
    assert status.ended.code == "expired"
    answer = await agent.handle(RouteCall(resource="wiki"))
    assert isinstance(answer, Problem)
    assert answer.exit == ExitCode.FAILED


async def test_certificates_of_other_sessions_are_not_taken(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    await agent.handle(LOGIN)
    status = await until(agent, lambda each: each.connected)
    before = state.session()
    assert status.session is not None
    other = status.session.model_copy(update={"id": perimeter.controller.invite().id})
    await perimeter.controller.tell(Session(session=other))
    await until(agent, lambda each: len(perimeter.controller.sockets) == 2 and each.connected)
    assert state.session() == before


async def test_a_new_login_replaces_the_session_and_logs_the_old_one_out(
    perimeter: Perimeter, state: ClientState, agent: Agent
) -> None:
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    first = state.session()
    await agent.handle(LOGIN)
    await perimeter.controller.wait_for(Logout)
    status = await until(agent, lambda each: each.connected)
    assert state.session() != first
    assert status.ended is None


async def test_a_failed_login_leaves_the_session_alone(perimeter: Perimeter, state: ClientState, agent: Agent) -> None:
    await agent.handle(LOGIN)
    first = state.session()
    await agent.handle(LoginCall(user="ada", proofs=(WRONG, OTP)))
    assert state.session() == first


async def test_logout_tells_the_controller_and_ends_the_agent(perimeter: Perimeter, state: ClientState) -> None:
    agent = Agent(state, os.getpid())
    task = asyncio.create_task(agent.run())
    await asyncio.sleep(0)
    await agent.handle(LOGIN)
    await until(agent, lambda each: each.connected)
    answer = await agent.handle(LogoutCall())
    assert answer == LogoutAnswer(told=True)
    await task
    assert state.session() is None
    assert state.ended() is None
    assert isinstance(perimeter.controller.heard[-1], Logout)


async def test_logout_works_without_the_controller_and_says_so(perimeter: Perimeter, state: ClientState) -> None:
    agent = Agent(state, os.getpid())
    task = asyncio.create_task(agent.run())
    await asyncio.sleep(0)
    perimeter.controller.answers.attach_status = 503
    await agent.handle(LOGIN)
    assert await agent.handle(LogoutCall()) == LogoutAnswer(told=False)
    await task
    assert state.session() is None


async def test_the_next_agent_takes_a_session_up(perimeter: Perimeter, state: ClientState) -> None:
    async with running(state) as first:
        await first.handle(LOGIN)
        await until(first, lambda each: each.connected)
        identity = state.session()
    assert state.session() == identity
    async with running(state) as second:
        found = await second.handle(RouteCall(resource="wiki"))
        assert isinstance(found, RouteAnswer)
        status = await until(second, lambda each: each.connected)
        assert status.session is not None
        assert identity is not None
        assert str(status.session.id) == identity.name.id


async def test_a_wrong_clock_is_corrected_at_login(perimeter: Perimeter, state: ClientState, agent: Agent) -> None:
    perimeter.controller.answers.clock_error = timedelta(seconds=45)
    await agent.handle(LOGIN)
    status = await until(agent, lambda each: each.connected)
    assert abs(status.clock_offset_us - 45_000_000) < 5_000_000
    assert state.clock().offset_us == status.clock_offset_us
