"""The controllers of a profile, over HTTPS: a login, and the WebSocket that keeps a session.

Laws:

1. Controllers are tried in the order of the profile; the first that answers serves the request.
2. A request that may have arrived is not sent to another controller: a login counts attempts.
3. Every answer is bounded and parsed strictly; its time corrects our clock.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

import aiohttp

from client.clock import Clock
from client.dial import CannotReach, Door, tls_failed
from client.profile import Profile
from client.state import ClientState
from spa.packet import KnockKind
from wire.errors import RemoteError, TlsRefused
from wire.http import connector
from wire.limits import ALPN_HTTP
from wire.messages import (
    AccountReply,
    AccountRequest,
    ControllerAddress,
    LoginReply,
    LoginRequest,
    Message,
    OidcBegin,
    OidcBegun,
    OidcFinish,
    OidcFinished,
    PasskeyReply,
    PasskeyRequest,
    Refusal,
    parse,
)
from wire.tls import ClientTls

ANSWER_DEADLINE: Final = 15.0
"""Seconds for an answer once connected: a password hash, a database write, and the leases' acknowledgement."""
MAX_ANSWER: Final = 1_048_576
"""Bytes: a session view of a thousand resources is under 300 KiB."""
WEBSOCKET_GONE: Final = frozenset({401, 403, 404, 409, 410})

T = TypeVar("T")
R = TypeVar("R", LoginReply, AccountReply, OidcBegun, OidcFinished, PasskeyReply)


class RefusedByController(Exception):  # noqa: N818 - reads as what it is
    """The controller answered, and the answer is no."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.status = status
        self.refusal = refusal

    @property
    def final(self) -> bool:
        """Whether asking again cannot help (a 503 or 429 may pass)."""
        return self.status in WEBSOCKET_GONE


class Controllers:
    """Requests of one device to whichever of its controllers answers."""

    def __init__(self, state: ClientState, profile: Profile, clock: Clock) -> None:
        self._state = state
        self._profile = profile
        self._clock = clock

    async def login(self, request: LoginRequest) -> LoginReply:
        """Asks for a session. Raises CannotReach, RefusedByController."""
        return await self._post("/v1/login", request, LoginReply)

    async def account(self, request: AccountRequest) -> AccountReply:
        """Asks for a change of how the person proves who they are. Raises CannotReach, RefusedByController."""
        return await self._post("/v1/account", request, AccountReply)

    async def begin_oidc(self, request: OidcBegin) -> OidcBegun:
        """Begins a login at an identity provider. Raises CannotReach, RefusedByController."""
        return await self._post("/v1/oidc/begin", request, OidcBegun)

    async def finish_oidc(self, request: OidcFinish) -> OidcFinished:
        """Brings what came of it. Raises CannotReach, RefusedByController."""
        return await self._post("/v1/oidc/finish", request, OidcFinished)

    async def passkeys(self, request: PasskeyRequest) -> PasskeyReply:
        """Asks something about one's passkeys. Raises CannotReach, RefusedByController."""
        return await self._post("/v1/passkeys", request, PasskeyReply)

    async def _post(self, path: str, request: Message, model: type[R]) -> R:
        body = request.model_dump_json().encode()

        async def post(http: aiohttp.ClientSession, base: str) -> R:
            asked = self._clock.wall()
            headers = {"Content-Type": "application/json"}
            async with http.post(f"{base}{path}", data=body, headers=headers) as response:
                data = await _bounded(response)
                if response.status != 200:  # noqa: PLR2004 (the one success)
                    raise RefusedByController(response.status, _refusal(response.status, data))
                reply = parse(model, data)
                self._learn(reply.time, asked)
                return reply

        return await self._first(post)

    @asynccontextmanager
    async def session_socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The WebSocket of a live session. Raises CannotReach, RefusedByController."""
        made: list[tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]] = []

        async def attach(http: aiohttp.ClientSession, base: str) -> None:
            try:
                socket = await http.ws_connect(
                    f"{base}/v1/session", max_msg_size=MAX_ANSWER, timeout=aiohttp.ClientWSTimeout(ws_close=2)
                )
            except aiohttp.WSServerHandshakeError as error:
                sentence = f"the controller refused to go on with the session (HTTP {error.status})"
                raise RefusedByController(error.status, Refusal(code="refused", sentence=sentence)) from error
            made.append((http, socket))

        await self._first(attach, keep=True)
        http, socket = made[0]
        try:
            yield socket
        finally:
            await socket.close()
            await http.close()

    async def _first(self, ask: Callable[[aiohttp.ClientSession, str], Awaitable[T]], *, keep: bool = False) -> T:
        """What the first controller that can be reached answers; `keep` leaves its connection open on success."""
        last: CannotReach | None = None
        for controller in self._profile.controllers:
            try:
                return await self._ask(controller, ask, keep=keep)
            except CannotReach as error:
                if error.step == "answer":
                    raise
                last = error
        raise last if last is not None else CannotReach("profile", "none", "no controller is known", "enrol again")

    async def _ask(
        self,
        controller: ControllerAddress,
        ask: Callable[[aiohttp.ClientSession, str], Awaitable[T]],
        *,
        keep: bool,
    ) -> T:
        name = self._profile.controller_name(controller)
        for attempt in (0, 1):
            identity, secret = self._state.device(), self._state.knock_secret()
            tls = ClientTls(identity, self._state.trust(), name, alpn=(ALPN_HTTP,))
            door = Door(name, controller.tls, controller.knock, KnockKind.CONTROL, self._clock, secret=secret)
            http = aiohttp.ClientSession(
                connector=connector(door.dial, tls),
                timeout=aiohttp.ClientTimeout(total=None if keep else ANSWER_DEADLINE + door.deadline),
                auto_decompress=False,
            )
            done = False
            try:
                async with asyncio.timeout(ANSWER_DEADLINE + door.deadline):
                    result = await ask(http, f"http://{controller.name}")
            except TimeoutError:
                sentence = f"controller {controller.name} did not answer in time"
                raise CannotReach("answer", "timeout", sentence, "try again in a moment") from None
            except CannotReach:
                raise
            except RefusedByController:
                # A renewal may have replaced the certificate between our reading it and the controller's judging it.
                if attempt or self._state.device().leaf == identity.leaf:
                    raise
            except (aiohttp.ClientError, RemoteError, OSError) as error:
                failed = _step_of(error, controller.name)
                if failed.reason != "closed" or attempt:
                    raise failed from error
            else:
                done = keep
                return result
            finally:
                if not done:
                    await http.close()
        raise CannotReach("tls", "closed", f"controller {controller.name} closes every connection", "try again")

    def _learn(self, time: datetime, asked_us: int) -> None:
        if self._clock.learn(time, asked_us, self._clock.wall()):
            self._state.save_clock(self._clock)


def _step_of(error: Exception, controller: str) -> CannotReach:
    """Which step an exception of aiohttp (or what it wraps) speaks of."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CannotReach):
            return cause
        if isinstance(cause, TlsRefused):
            return tls_failed(cause)
        cause = cause.__cause__
    if isinstance(error, RemoteError):
        fix = "update gloam; the controller speaks another version"
        return CannotReach(
            "answer", "bad_answer", f"the answer of controller {controller} is not understood: {error}", fix
        )
    sentence = f"controller {controller} broke off before it answered ({type(error).__name__})"
    return CannotReach("answer", "broken", sentence, "try again; a revoked or unapproved device is broken off too")


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    data = await response.content.read(MAX_ANSWER + 1)
    while len(data) <= MAX_ANSWER and (more := await response.content.read(MAX_ANSWER + 1 - len(data))):
        data += more
    if len(data) > MAX_ANSWER:
        raise RemoteError(f"longer than {MAX_ANSWER} bytes")
    return data


def _refusal(status: int, body: bytes) -> Refusal:
    try:
        return parse(Refusal, body)
    except RemoteError:
        return Refusal(code=f"http_{status}", sentence=f"the controller answered with HTTP {status}")
