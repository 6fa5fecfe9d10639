"""Keeps one session alive: the WebSocket to the controller, renewals, and word of its end.

Laws:

1. A session ends once, with a reason: revoked by the controller, logged out, or past its time with nobody to renew it.
2. Every renewal has a new key. The new pair replaces the old on the disk in one step, and only after its certificate
   has been checked: our key, our session, our controller's intermediate.
3. A lost connection is taken up again with full jitter for as long as the session's certificate lives.
4. Times come from the controller's clock; deadlines of our own from the event loop's.
"""

import asyncio
import contextlib
import hashlib
import itertools
import secrets
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import aiohttp
import structlog

from certs.errors import CertsError
from certs.issue import make_csr, new_private_key, private_key_pem
from certs.names import Name, NameKind, Purpose
from certs.secret import Secret
from certs.store import Identity, Trust
from certs.verify import name_of
from client.agent.messages import Notice
from client.clock import Clock
from client.controllers import Controllers, RefusedByController
from client.dial import CannotReach
from client.profile import Ended
from client.session import renewal_due, replace_resource, wait_before
from client.state import ClientState
from wire.errors import RemoteError
from wire.messages import (
    Attach,
    Beat,
    Explained,
    ExplainRequest,
    Heartbeat,
    Logout,
    Message,
    Renew,
    ResourceView,
    Revoked,
    Session,
    SessionView,
    StepUpNeeded,
    TrustUpdate,
    decode,
    to_client,
)

HEARTBEAT: Final = 10.0
"""Seconds between heartbeats; two without any word from the controller and the connection counts as lost."""
EXPLAIN_DEADLINE: Final = 3.0
LOGOUT_DEADLINE: Final = 3.0
LEAST_RENEWAL_WAIT: Final = 1.0
"""Seconds before an unanswered renewal is asked for again; longer while more of the certificate's life is left."""

log = structlog.get_logger("client.agent")


def checked_session(key: Secret, view: SessionView, trust: Trust, now: datetime) -> Identity:
    """The identity that `view`'s certificate makes of `key`. Raises CertsError where the two do not belong together."""
    identity = Identity.from_pem(key, view.certificate.encode())
    name = name_of(identity.chain, anchors=trust.only(Purpose.SESSIONS), domain=trust.domain, now=now)
    expected = Name(trust.domain, NameKind.SESSION, str(view.id))
    if name != expected:
        raise RemoteError(f"the certificate is for {name}, not {expected}")
    return identity


class Keeper:
    """One session. `run` lives as long as the session does and answers why it ended."""

    def __init__(
        self, state: ClientState, controllers: Controllers, clock: Clock, session: UUID, view: SessionView | None = None
    ) -> None:
        self.session = session
        self.view = view
        self.connected = False
        self.problem = ""
        self.notice: Notice | None = None
        self.renewal_due: datetime | None = None
        self.valid_until = clock.now()
        self.viewed = asyncio.Event()
        self._state = state
        self._controllers = controllers
        self._clock = clock
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._pending_key: Secret | None = None
        self._explaining: dict[str, list[asyncio.Future[ResourceView]]] = {}
        self._leaving = False
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._beat_asked_us = 0
        if view is not None:
            self._follow(view.valid_until)
            self.viewed.set()
        elif (identity := state.session()) is not None:
            self._follow(identity.leaf.not_valid_after_utc)

    async def run(self) -> Ended:
        """Keeps the session until it ends."""
        attempt = 0
        try:
            while True:
                try:
                    if (ended := await self._live()) is not None:
                        return ended
                    attempt = 0
                    self.problem = "the controller closed the connection"
                except CannotReach as error:
                    self.problem = str(error)
                except RefusedByController as error:
                    if error.final:
                        return self._ended(error.refusal.code, error.refusal.sentence, error.refusal.fix)
                    self.problem = str(error)
                except (aiohttp.ClientError, OSError, RemoteError, CertsError) as error:
                    self.problem = f"the connection to the controller failed: {error}"
                if self._clock.now() >= self.valid_until:
                    sentence = f"the session ran out while the controller could not be reached ({self.problem})"
                    return self._ended("expired", sentence, "log in again")
                wait = wait_before(attempt, secrets.randbelow(1000) / 1000)
                log.warning("controller lost", problem=self.problem, next_attempt_seconds=round(wait, 2))
                attempt += 1
                left = (self.valid_until - self._clock.now()).total_seconds()
                await self._sleep(max(0.0, min(wait, left)))
        finally:
            self._over.set()
            self.viewed.set()  # whoever waits for a view need not wait longer,
            for answer in itertools.chain.from_iterable(self._explaining.values()):  # nor for an explanation
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the session is over"))

    async def explain(self, resource: str) -> None:
        """Asks the controller about one resource and puts the answer into the view; returns silently if it cannot."""
        if self._socket is None or not self.connected:
            return
        answer: asyncio.Future[ResourceView] = asyncio.get_running_loop().create_future()
        waiting = self._explaining.setdefault(resource, [])
        waiting.append(answer)
        try:
            async with asyncio.timeout(EXPLAIN_DEADLINE):
                await self._say(self._socket, ExplainRequest(resource=resource))
                fresh = await answer
        except (TimeoutError, OSError, aiohttp.ClientError):
            return
        finally:
            waiting.remove(answer)
        if self.view is not None:
            self.view = replace_resource(self.view, fresh)

    def stepped_up(self, view: SessionView | None) -> None:
        """The person proved themselves again: what the controller asked for is settled."""
        self.notice = None
        if view is not None and view.id == self.session:
            self.view = view

    async def logout(self) -> bool:
        """Ends the session; whether the controller confirmed it in time."""
        self._leaving = True
        self._wake.set()
        with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(LOGOUT_DEADLINE):
                if self._socket is not None and self.connected:
                    await self._say(self._socket, Logout())
                await self._over.wait()
                return True
        return False

    # One connection ----------------------------------------------------------------------------------------------

    async def _live(self) -> Ended | None:
        """Attaches and stays until the session ends (why) or the connection does (None)."""
        async with self._controllers.session_socket() as socket:
            self._socket = socket
            try:
                held = hashlib.sha256(self._state.trust().to_pem()).digest()
                await self._say(socket, Attach(session=self.session, trust=held))
                if self._leaving:
                    await self._say(socket, Logout())
                return await self._talk(socket)
            finally:
                self._socket = None
                self.connected = False
                self._pending_key = None

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> Ended | None:
        loop = asyncio.get_running_loop()
        heard, beat_at, renew_at = loop.time(), loop.time() + HEARTBEAT, self._renewal_deadline()
        while True:
            if loop.time() >= heard + 2 * HEARTBEAT:
                self.problem = "the controller fell silent"
                return None
            if loop.time() >= beat_at:
                beat_at = loop.time() + HEARTBEAT
                self._beat_asked_us = self._clock.wall()
                await self._say(socket, Heartbeat())
            if self.connected and loop.time() >= renew_at:
                renew_at = loop.time() + await self._ask_renewal(socket)
            wake_at = min(beat_at, heard + 2 * HEARTBEAT, renew_at if self.connected else beat_at)
            try:
                received = await socket.receive(timeout=max(0.001, wake_at - loop.time()))
            except TimeoutError:
                continue
            if received.type is not aiohttp.WSMsgType.TEXT:
                return self._ended("logged_out", "logged out", "gloam login") if self._leaving else None
            heard = loop.time()
            due = self.renewal_due
            if (ended := self._hear(received.data)) is not None:
                return ended
            if self.renewal_due != due:
                renew_at = self._renewal_deadline()

    def _hear(self, text: str) -> Ended | None:
        """Takes one message in; the end of the session if it says so. Raises RemoteError for one that is not ours."""
        message = decode(to_client, text)
        match message:
            case Session():
                self._take(message.session)
            case TrustUpdate():
                self._state.update_trust(message.trust)
                log.info("trust replaced")
            case Explained():
                self._explained(message.resource)
            case StepUpNeeded():
                self._noticed(message)
            case Beat():
                if self._clock.learn(message.time, self._beat_asked_us, self._clock.wall()):
                    self._state.save_clock(self._clock)
            case Revoked():
                if self._leaving:
                    return self._ended("logged_out", "logged out", "gloam login")
                return self._ended(message.code, message.sentence, message.fix or "log in again")
            case _ as never:  # pragma: no cover
                assert_never(never)
        return None

    def _noticed(self, message: StepUpNeeded) -> None:
        """Keeps what the person should know; without a fix, what was said under that code is settled."""
        if message.fix:
            self.notice = Notice(code=message.code, sentence=message.sentence, fix=message.fix)
            log.warning("the person has to do something", code=message.code)
        elif self.notice is not None and self.notice.code == message.code:
            self.notice = None

    def _explained(self, resource: ResourceView) -> None:
        for waiting in self._explaining.get(resource.name, ()):
            if not waiting.done():
                waiting.set_result(resource)

    def _take(self, view: SessionView) -> None:
        """The session as it is now; a certificate for the key we asked with becomes the session's."""
        if view.id != self.session:
            raise RemoteError("the controller spoke of another session")
        if self._pending_key is not None and self._certifies(view, self._pending_key):
            identity = checked_session(self._pending_key, view, self._state.trust(), self._clock.now())
            self._state.save_session(identity)
            self._pending_key = None
            self._follow(view.valid_until)
            log.info("session renewed", valid_until=view.valid_until.isoformat())
        self.view = view
        self.connected = True
        self.problem = ""
        self.viewed.set()

    @staticmethod
    def _certifies(view: SessionView, key: Secret) -> bool:
        """Whether the certificate in the view is for this key; an update of resources repeats the old one."""
        with contextlib.suppress(CertsError):
            Identity.from_pem(key, view.certificate.encode())
            return True
        return False

    # Renewal -----------------------------------------------------------------------------------------------------

    def _follow(self, valid_until: datetime) -> None:
        self.valid_until = valid_until
        self.renewal_due = renewal_due(self._clock.now(), valid_until)

    def _renewal_deadline(self) -> float:
        now = asyncio.get_running_loop().time()
        if self.renewal_due is None:
            return now
        return now + max(0.0, (self.renewal_due - self._clock.now()).total_seconds())

    async def _ask_renewal(self, socket: aiohttp.ClientWebSocketResponse) -> float:
        """Asks with a new key; seconds until it should be asked again if no answer comes."""
        key = new_private_key()
        self._pending_key = private_key_pem(key)
        await self._say(socket, Renew(csr=make_csr(key).decode()))
        left: timedelta = self.valid_until - self._clock.now()
        return max(LEAST_RENEWAL_WAIT, left.total_seconds() / 4)

    # Small things ------------------------------------------------------------------------------------------------

    @staticmethod
    async def _say(socket: aiohttp.ClientWebSocketResponse, message: Message) -> None:
        await socket.send_str(message.model_dump_json())

    async def _sleep(self, seconds: float) -> None:
        """Waits, unless somebody is in a hurry (logout)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    def _ended(self, code: str, sentence: str, fix: str) -> Ended:
        log.info("session ended", code=code, sentence=sentence)
        return Ended(code=code, sentence=sentence, fix=fix, at=self._clock.now())
