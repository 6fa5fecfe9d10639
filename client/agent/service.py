"""The agent: owns the session of one state directory, from login to logout.

Laws:

1. There is one agent for each state directory (a lock file), and it ends when it has no session and nobody calls.
2. A new login replaces the session only once it has succeeded; the old one is then logged out.
3. A proof lives as long as its call.
"""

import asyncio
from typing import Final, assert_never
from uuid import UUID

import structlog

from certs.errors import CertsError
from certs.issue import make_csr, new_private_key, private_key_pem
from client.agent.keeper import Keeper, checked_session
from client.agent.messages import (
    Answer,
    Call,
    LoginAnswer,
    LoginCall,
    LogoutAnswer,
    LogoutCall,
    OidcBeginAnswer,
    OidcBeginCall,
    OidcFinishAnswer,
    OidcFinishCall,
    PasskeyAnswer,
    PasskeyCall,
    Problem,
    RouteAnswer,
    RouteCall,
    StatusAnswer,
    StatusCall,
)
from client.agent.renewal import NEW_INVITE, Renewal
from client.controllers import Controllers, RefusedByController
from client.dial import CannotReach
from client.session import NoRoute, Target, find, route
from client.state import ClientState, session_id
from console.errors import ExitCode
from wire.errors import RemoteError
from wire.messages import LoginReply, LoginRequest, PasskeyRequest, SessionView
from wire.renewal import RenewalFailed

IDLE: Final = 60.0
"""Seconds an agent without a session waits for another call: a person reading a code off a telephone needs less."""
VIEW_DEADLINE: Final = 5.0
"""Seconds a call waits for an agent that has just taken its session up again."""

log = structlog.get_logger("client.agent")


class Agent:
    """Handles calls, runs the keeper of the session."""

    def __init__(self, state: ClientState, pid: int) -> None:
        self._state = state
        self._pid = pid
        self._profile = state.profile()
        self._clock = state.clock()
        self._controllers = Controllers(state, self._profile, self._clock)
        self._renewal = Renewal(state, self._profile, self._clock)
        self._keeper: Keeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._finished = asyncio.Event()
        self._called = asyncio.Event()
        self._login = asyncio.Lock()

    async def run(self) -> None:
        """Lives until the session is over and nobody calls, or until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            renewing = tasks.create_task(self._renewal.run(), name="renewal")
            self._resume()
            while not self._finished.is_set():
                self._called.clear()
                try:
                    async with asyncio.timeout(None if self._keeper else IDLE):
                        await self._called.wait()
                except TimeoutError:
                    if self._keeper is None and not self._login.locked():
                        log.info("nothing left to do")
                        break
            self._finished.set()
            renewing.cancel()
            if self._keeping is not None:
                self._keeping.cancel()

    def stop(self) -> None:
        """Ends the agent and leaves the session as it is (the next agent takes it up)."""
        self._finished.set()
        self._called.set()

    async def handle(self, asked: Call) -> Answer:
        """The answer to one call."""
        self._called.set()
        try:
            return await self._do(asked)
        except CannotReach as error:
            return Problem(what=str(error)[:1024], fix=error.fix, exit=ExitCode.UNREACHABLE)
        except RenewalFailed as error:
            what = f"this device's certificate has ended, and to get another: {error}"
            answered = error.step in {"refused", "reply"}
            fix = error.fix if answered else f"try again; {NEW_INVITE}"
            return Problem(what=what[:1024], fix=fix, exit=ExitCode.FAILED if answered else ExitCode.UNREACHABLE)
        except RefusedByController as error:
            fix = error.refusal.fix or "ask the administrator"
            return Problem(what=error.refusal.sentence, fix=fix, exit=ExitCode.FAILED)
        except CertsError as error:
            return Problem(what=str(error)[:1024], fix=error.fix, exit=ExitCode.FAILED)
        except Exception as error:
            log.exception("call failed")
            what, fix = f"internal error in the agent ({type(error).__name__})", "report it with agent.log"
            return Problem(what=what, fix=fix, exit=ExitCode.FAILED)
        finally:
            self._called.set()

    async def _do(self, asked: Call) -> Answer:  # noqa: PLR0911 - one a call
        match asked:
            case LoginCall():
                async with self._login:
                    return await self._log_in(asked)
            case OidcBeginCall():
                return OidcBeginAnswer(begun=await self._controllers.begin_oidc(asked.asked))
            case OidcFinishCall():
                return OidcFinishAnswer(finished=await self._controllers.finish_oidc(asked.asked))
            case PasskeyCall():
                return await self._passkeys(asked)
            case StatusCall():
                return await self._status()
            case RouteCall():
                return await self._route(asked)
            case LogoutCall():
                return await self._log_out()
            case _ as never:  # pragma: no cover
                assert_never(never)

    # Calls -------------------------------------------------------------------------------------------------------

    async def _log_in(self, asked: LoginCall) -> Answer:
        if asked.step_up:
            return await self._step_up(asked)
        await self._renewal.before_login()
        key = new_private_key()
        request = LoginRequest(user=asked.user, proofs=asked.proofs, csr=make_csr(key).decode())
        reply: LoginReply = await self._controllers.login(request)
        if reply.status == "done":
            if reply.session is None:
                return Problem(what="the controller logged in without a session", fix="update gloam", exit=1)
            try:
                if reply.trust:
                    self._state.update_trust(reply.trust)
                identity = checked_session(private_key_pem(key), reply.session, self._state.trust(), self._clock.now())
            except (CertsError, RemoteError) as error:
                what = f"the controller's session cannot be used: {error}"
                return Problem(what=what, fix="check the clock of this machine, and tell the administrator", exit=1)
            self._state.save_session(identity)
            self._state.save_ended(None)
            self._keep(Keeper(self._state, self._controllers, self._clock, reply.session.id, reply.session))
        return _login_answer(reply)

    async def _step_up(self, asked: LoginCall) -> Answer:
        """A fresh proof for the session there is: the controller tells everything that follows over its WebSocket."""
        keeper = self._keeper
        if keeper is None:
            return self._not_logged_in()
        reply = await self._controllers.login(LoginRequest(user=asked.user, proofs=asked.proofs, step_up=True))
        if reply.status == "done":
            keeper.stepped_up(reply.session)
        return _login_answer(reply)

    async def _passkeys(self, asked: PasskeyCall) -> Answer:
        keeper = self._keeper
        if keeper is None:
            return self._not_logged_in()
        return PasskeyAnswer(
            reply=await self._controllers.passkeys(PasskeyRequest(session=keeper.session, wish=asked.wish))
        )

    async def _status(self) -> StatusAnswer:
        if self._keeper is not None and not self._keeper.problem:
            await self._view(self._keeper)  # at once, unless the session has just been taken up from the disk
        keeper = self._keeper
        if keeper is None:
            return StatusAnswer(
                agent=self._pid,
                ended=self._state.ended(),
                renewal_problem=self._renewal.problem[:1024],
                clock_offset_us=self._clock.offset_us,
            )
        return StatusAnswer(
            agent=self._pid,
            session=keeper.view,
            resuming=keeper.view is None,
            connected=keeper.connected,
            problem=keeper.problem[:1024],
            notice=keeper.notice,
            renewal_problem=self._renewal.problem[:1024],
            clock_offset_us=self._clock.offset_us,
            renewal_due=keeper.renewal_due,
        )

    async def _route(self, asked: RouteCall) -> Answer:
        keeper = self._keeper
        if keeper is None:
            return self._not_logged_in()
        view = await self._view(keeper)
        if self._keeper is None:
            return self._not_logged_in()
        if view is None:
            what = f"the session cannot be taken up again: {keeper.problem or 'the controller has not answered yet'}"
            return Problem(what=what[:1024], fix="try again, or log in again", exit=ExitCode.UNREACHABLE)
        known = find(view, asked.resource)
        if asked.fresh or known is None or not known.allowed:
            await keeper.explain(asked.resource)
            if self._keeper is None:
                return self._not_logged_in()
            view = keeper.view or view
        match route(view, Target(asked.resource, asked.port)):
            case NoRoute() as none:
                unasked = find(view, asked.resource) is None and not keeper.connected
                return _cannot_ask(asked.resource, keeper.problem) if unasked else _no_way(none)
            case found:
                return RouteAnswer(
                    session=str(view.id),
                    resource=found.resource,
                    gateways=found.gateways,
                    clock=self._clock.correction,
                    seen_at=view.seen_at,
                )

    async def _log_out(self) -> LogoutAnswer:
        keeper = self._keeper
        told = await keeper.logout() if keeper is not None else None
        self._state.forget_session()
        self._state.save_ended(None)
        self.stop()
        return LogoutAnswer(told=told)

    # The session -------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Takes up the session an earlier agent left on the disk, if it has time left."""
        identity = self._state.session()
        if identity is None:
            return
        if identity.expired(self._clock.now()):
            self._state.forget_session()
            return
        log.info("session taken up again", session=session_id(identity))
        self._keep(Keeper(self._state, self._controllers, self._clock, UUID(session_id(identity))))

    def _keep(self, keeper: Keeper) -> None:
        if self._tasks is None:
            raise RuntimeError("the agent is not running")
        if self._keeper is not None and self._keeping is not None:
            self._tasks.create_task(self._retire(self._keeper, self._keeping), name="former session")
        self._keeper = keeper
        self._keeping = self._tasks.create_task(self._run(keeper), name="session")

    @staticmethod
    async def _retire(former: Keeper, keeping: asyncio.Task[None]) -> None:
        """Logs a replaced session out; the controller ends it by itself where it cannot be told."""
        await former.logout()
        keeping.cancel()

    async def _run(self, keeper: Keeper) -> None:
        ended = await keeper.run()
        if self._keeper is keeper:
            self._keeper = None
            self._state.forget_session()
            if ended.code != "logged_out":
                self._state.save_ended(ended)
            self._called.set()

    @staticmethod
    async def _view(keeper: Keeper) -> SessionView | None:
        try:
            async with asyncio.timeout(VIEW_DEADLINE):
                await keeper.viewed.wait()
        except TimeoutError:
            return None
        return keeper.view

    def _not_logged_in(self) -> Problem:
        ended = self._state.ended()
        if ended is None:
            return Problem(what="you are not logged in", fix="run gloam login", exit=ExitCode.FAILED)
        what = f"your session has ended: {ended.sentence}"
        exit_code = ExitCode.FAILED if ended.code == "expired" else ExitCode.DENIED
        return Problem(what=what[:1024], fix=ended.helps, exit=exit_code)


def _login_answer(reply: LoginReply) -> LoginAnswer:
    return LoginAnswer(
        status=reply.status,
        asks=reply.asks,
        code=reply.code,
        sentence=reply.sentence,
        fix=reply.fix,
        session=reply.session,
        backup_codes=reply.backup_codes,
    )


def _no_way(none: NoRoute) -> Problem:
    exit_code = ExitCode.DENIED if none.denied else ExitCode.FAILED
    return Problem(what=none.sentence, fix=none.fix, exit=exit_code, code=none.code)


def _cannot_ask(resource: str, problem: str) -> Problem:
    """Nobody here knows whether that is denied, or exists."""
    what = f"whether you may reach {resource} cannot be asked now{problem and ': '}{problem}"
    return Problem(what=what[:1024], fix="try again once the controller answers", exit=ExitCode.UNREACHABLE)
