"""The WebSocket of a live session: the client keeps it alive and renews it; the controller says what changed.

Laws:

1. The first message is `attach`, soon, and once: one connection is about one session.
2. What is not in the protocol ends the connection and is audited. So does asking more than `BURST` at once.
3. A client that does not take what it is told is disconnected: nothing waits for it but a bounded queue.
4. `revoked` is the last thing a client hears.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar, assert_never
from uuid import UUID

from aiohttp import WSMsgType, web

from certs.errors import BadCertificate
from controller.audit.events import ClientProtocolError, Event
from controller.errors import StorageError
from controller.sessions.service import Sessions
from wire.errors import RemoteError
from wire.messages import (
    Attach,
    Beat,
    Explained,
    ExplainRequest,
    FromClient,
    Heartbeat,
    Logout,
    Renew,
    Revoked,
    Session,
    ToClient,
    TrustUpdate,
    decode,
    from_client,
)

T = TypeVar("T")

MAX_MESSAGE: Final = 16_384
"""Bytes: a renewal carries a signing request of at most 8 KiB."""
ATTACH_DEADLINE: Final = 5.0
"""Seconds from the opened WebSocket to `attach`."""
QUEUE: Final = 64
"""Messages that wait for a client; one that changes need is a few KiB."""
PING: Final = 15.0
"""Seconds between pings of a WebSocket that is otherwise silent: aiohttp closes it if no answer comes in half of it."""
BURST: Final = 20
"""Messages at once, refilled at `PER_SECOND`: people ask, programs ask a little faster."""
PER_SECOND: Final = 5.0
CLOSE_DEADLINE: Final = 1.0

LOST: Final = "the connection was lost"

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
OVERLOADED: Final = 1008
GOING_AWAY: Final = 1001
TRY_AGAIN: Final = 1013
REPLACED: Final = 4001


class _Over(Exception):  # noqa: N818 - an end, not always an error
    """The connection is over. `close` is the WebSocket's close code; None: it is gone already."""

    def __init__(self, sentence: str, close: int | None) -> None:
        super().__init__(sentence)
        self.close = close


class SessionSocket:
    """One connection of one device. It is the session's listener once attached."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        device: UUID,
        source: str,
        trust: Callable[[], str],
        note: Callable[[Event], None],
        seen: Callable[[UUID], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._seen = seen
        self._sessions = sessions
        self._device = device
        self._source = source
        self._trust = trust
        self._note = note
        self._clock = clock
        self._socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE, compress=False, heartbeat=PING, timeout=CLOSE_DEADLINE
        )
        self._waiting: asyncio.Queue[ToClient] = asyncio.Queue(QUEUE)
        self._ending: asyncio.Future[_Over] = asyncio.get_running_loop().create_future()
        self._work: asyncio.Task[Any] | None = None
        self._budget = float(BURST)
        self._budgeted = asyncio.get_running_loop().time()

    # What sessions tell us

    def tell(self, message: ToClient) -> None:
        """Sends soon."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._end(_Over("the client does not take what it is told", OVERLOADED))

    def replaced(self) -> None:
        """A newer connection listens now."""
        self._end(_Over("a newer connection took over", REPLACED))

    def going_away(self) -> None:
        """The controller stops; clients come back to it, or to another."""
        self._end(_Over("the controller is going away", GOING_AWAY))

    def _end(self, over: _Over) -> None:
        if not self._ending.done():
            self._ending.set_result(over)

    # The connection

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Speaks until the connection is over."""
        await self._socket.prepare(request)
        over = _Over(LOST, None)
        session: UUID | None = None
        try:
            session = await self._attach()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write())
                group.create_task(self._read(session))
                group.create_task(self._watch())
                group.create_task(self._sessions.follow(session))
        except _Over as error:
            over = error
        except BaseExceptionGroup as errors:
            over = _reason(errors)
        finally:
            if session is not None:
                self._sessions.detach(session, self)
            if self._work is not None:
                await asyncio.wait({self._work})
            if over.close == PROTOCOL_ERROR:
                self._note(ClientProtocolError(device=self._device, source=self._source, detail=str(over)))
            await self._close(over)
        return self._socket

    async def _attach(self) -> UUID:
        try:
            async with asyncio.timeout(ATTACH_DEADLINE):
                message = await self._receive()
        except TimeoutError:
            raise _Over("no attach came", PROTOCOL_ERROR) from None
        if not isinstance(message, Attach):
            raise _Over(f"{message.type} before attach", PROTOCOL_ERROR)
        answer = self._sessions.attach(message.session, self._device, self, self._source)
        if isinstance(answer, Revoked):
            await self._send(answer)
            raise _Over("the session is over", NORMAL)
        if message.trust is not None and message.trust != hashlib.sha256(self._trust().encode()).digest():
            await self._send(TrustUpdate(trust=self._trust()))
        # Straight away: what was told since `attach` returned comes after it.
        await self._send(Session(session=answer))
        return message.session

    async def _read(self, session: UUID) -> None:
        while True:
            message = await self._receive()
            self._spend()
            match message:
                case Heartbeat():
                    self._seen(self._device)
                    self.tell(Beat(time=self._clock()))
                case Renew(csr=csr):
                    await self._renew(session, csr)
                case ExplainRequest(resource=resource):
                    view = self._sessions.explain(session, resource)
                    if view is not None:
                        self.tell(Explained(resource=view))
                case Logout():
                    await self._log_out(session)
                case Attach():
                    raise _Over("a second attach", PROTOCOL_ERROR)
                case _ as never:  # pragma: no cover
                    assert_never(never)

    async def _renew(self, session: UUID, csr: str) -> None:
        try:
            answer = await self._whole(self._sessions.renew(session, self._device, csr))
        except BadCertificate as error:
            raise _Over(f"renew: {error}", PROTOCOL_ERROR) from None
        except StorageError:
            raise _Over("the controller cannot do this now", TRY_AGAIN) from None
        self.tell(answer if isinstance(answer, Revoked) else Session(session=answer))

    async def _log_out(self, session: UUID) -> None:
        try:
            await self._whole(self._sessions.end(session, "logout", "logged out", ""))
        except StorageError:
            raise _Over("the controller cannot do this now", TRY_AGAIN) from None

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` to its end even if the connection is over meanwhile; `serve` waits for it then.

        Ending a session tells this very connection, whose end must not leave the session half ended.
        """
        self._work = asyncio.create_task(work)
        try:
            return await asyncio.shield(self._work)
        finally:
            if self._work.done():
                self._work = None

    async def _write(self) -> None:
        while True:
            message = await self._waiting.get()
            await self._send(message)
            if isinstance(message, Revoked):
                raise _Over("the session is over", NORMAL)

    async def _watch(self) -> None:
        raise await self._ending

    async def _receive(self) -> FromClient:
        received = await self._socket.receive()
        match received.type:
            case WSMsgType.TEXT:
                try:
                    return decode(from_client, received.data)
                except RemoteError as error:
                    raise _Over(str(error), PROTOCOL_ERROR) from None
            case WSMsgType.BINARY:
                raise _Over("a binary message", PROTOCOL_ERROR)
            case WSMsgType.ERROR:
                raise _Over("a broken or too long message", PROTOCOL_ERROR)
            case _:
                raise _Over("the client closed the connection", None)

    async def _send(self, message: ToClient) -> None:
        try:
            await self._socket.send_str(message.model_dump_json())
        except (ConnectionError, RuntimeError):
            raise _Over(LOST, None) from None

    def _spend(self) -> None:
        now = asyncio.get_running_loop().time()
        self._budget = min(self._budget + (now - self._budgeted) * PER_SECOND, float(BURST))
        self._budgeted = now
        if self._budget < 1:
            raise _Over("more messages than anybody needs", OVERLOADED)
        self._budget -= 1

    async def _close(self, over: _Over) -> None:
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(2 * CLOSE_DEADLINE):
                await self._socket.close(code=over.close or NORMAL, message=str(over).encode()[:120])


def _reason(errors: BaseExceptionGroup[BaseException]) -> _Over:
    """Why a connection is over, from what its tasks raised. What is not an end of a connection goes on up."""
    ends, others = errors.split(_Over)
    if others is not None:
        raise others
    leaves: list[BaseException] = list(ends.exceptions) if ends is not None else []
    while leaves:
        first = leaves.pop(0)
        if isinstance(first, BaseExceptionGroup):
            leaves = [*first.exceptions, *leaves]
        elif isinstance(first, _Over):
            return first
    raise errors
