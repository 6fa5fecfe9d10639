"""One WebSocket of one gateway, as the controller holds it, and what outlives it. `link.py` has the laws.

`GatewayEnd` is what outlives a gateway's links; a `Conversation` is one link from `hello` to its end, which is always
an `Over` with a code, a sentence and what the WebSocket is closed with.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never
from uuid import uuid4

from aiohttp import WSMsgType, web

from controller.audit import events
from controller.gateways.changes import Change, Changes
from controller.gateways.reports import Remembered
from wire.errors import RemoteError
from wire.messages import (
    Acknowledged,
    Counters,
    FromGateway,
    Hello,
    Lease,
    LeasePut,
    Ping,
    Reported,
    Resumed,
    ServedResource,
    Snapshot,
    ToGateway,
    TrustPut,
    Welcome,
    decode,
    from_gateway,
)
from wire.together import until_one_ends

MAX_MESSAGE: Final = 131_072
"""The largest message of a gateway, in bytes: eight of the longest reports (12 KiB); usual ones are some hundred."""
HELLO_DEADLINE: Final = 5.0
"""Seconds from the opened WebSocket to `hello`."""
PINGS_MISSED: Final = 3
"""Ping periods of silence until a gateway is dead."""
CLOSE_DEADLINE: Final = 1.0
"""Seconds a gateway has to answer our closing of the WebSocket."""
REPLACED: Final = 4001
"""WebSocket close code (private use, RFC 6455 §7.4.2): a newer link of the same gateway took over."""
REMOVED: Final = 4003
"""The gateway is not one of this perimeter any more."""
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002

Note = Callable[[events.Event], None]
LeasesFor = Callable[[str], Awaitable[tuple[Lease, ...]]]
ServedBy = Callable[[str], Sequence[ServedResource] | None]


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One live link. `acknowledged` of `sent` changes; `tunnels` as the gateway reported them."""

    gateway: str
    source: str
    since: datetime
    version: str
    cloak: str
    sent: int
    acknowledged: int
    tunnels: int
    counters: Counters | None


class Over(Exception):  # noqa: N818 - an end, not always an error
    """A link is over: `code` for the audit, `close` what the WebSocket is closed with (None: it is gone)."""

    def __init__(self, code: str, sentence: str, close: int | None) -> None:
        super().__init__(sentence)
        self.code = code
        self.close = close


class GatewayEnd:
    """What outlives a gateway's links: its changes, who waits for them, and what its reports need."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.changes = Changes(uuid4(), capacity)
        self.remembered = Remembered(name)
        self.served: tuple[ServedResource, ...] | None = None  # as last told
        self.link: Conversation | None = None
        self._trust = ("", 0)  # the bundle last told, and the change that told it
        self._confirmed = -1
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def append(self, make: Callable[[int], Change]) -> int:
        """The number of one more change; a live link sends it."""
        change = self.changes.append(make)
        if isinstance(change, LeasePut):
            self.remembered.lease(change.lease)
        elif isinstance(change, TrustPut):
            self._trust = (change.trust, change.seq)
        if self.link is not None:
            self.link.wake()
        return change.seq

    def acknowledgement(self, seq: int) -> asyncio.Future[None]:
        """Done once `seq` is acknowledged; `forget` it afterwards."""
        return self._waiting.setdefault(seq, asyncio.get_running_loop().create_future())

    def forget(self, seq: int) -> None:
        """Nobody waits for this change any more."""
        self.changes.settle(seq)
        if waiting := self._waiting.pop(seq, None):
            waiting.cancel()

    def acknowledged(self, upto: int) -> None:
        """The gateway has every change up to this one in force."""
        self._confirmed = max(self._confirmed, upto)
        for seq, waiting in self._waiting.items():
            if seq <= upto and not waiting.done():
                waiting.set_result(None)

    def told_trust(self, trust: str, point: int) -> None:
        """A snapshot that stands for `point` tells this bundle."""
        if self._trust[0] != trust:
            self._trust = (trust, point)

    def holds(self, trust: str) -> bool:
        """Whether the gateway has this bundle, and no later one, in force."""
        told, seq = self._trust
        return told == trust and self._confirmed >= seq


class Conversation:
    """One WebSocket of one gateway, from `hello` to its end."""

    def __init__(
        self,
        gateway: GatewayEnd,
        request: web.Request,
        socket: web.WebSocketResponse,
        *,
        leases_for: LeasesFor,
        served_by: ServedBy,
        trust: Callable[[], str],
        note: Note,
        now: Callable[[], datetime],
    ) -> None:
        self._gateway = gateway
        self._request = request
        self._socket = socket
        self._leases_for = leases_for
        self._served_by = served_by
        self._trust = trust
        self._note = note
        self._now = now
        self._wake = asyncio.Event()
        self._ending: asyncio.Future[Over] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._source = str(request.remote or "")
        self._since = now()
        self._hello: Hello | None = None
        self._counters: Counters | None = None
        self._sent = 0
        self._highest = 0  # a snapshot may stand for less than was sent: changes in flight follow it again
        self._acknowledged = 0

    def wake(self) -> None:
        """There are changes to send."""
        self._wake.set()

    async def end(self, over: Over) -> None:
        """Ends this link, from outside; returns when it has ended."""
        if not self._ending.done():
            self._ending.set_result(over)
        await self._ended.wait()

    def status(self) -> LinkStatus:
        """This link as it is now."""
        hello, counters = self._hello, self._counters
        return LinkStatus(
            gateway=self._gateway.name,
            source=self._source,
            since=self._since,
            version=hello.version if hello else "",
            cloak=(counters.cloak if counters else "") or (hello.cloak if hello else ""),
            sent=self._sent,
            acknowledged=self._acknowledged,
            tunnels=self._gateway.remembered.tunnels,
            counters=counters,
        )

    async def run(self, welcome: Welcome) -> None:
        """Speaks until the link is over, for whatever reason; the reason is audited."""
        over = Over("lost", "the connection was lost", None)
        opened = False
        try:
            hello = await self._receive_hello()
            older, self._gateway.link = self._gateway.link, self
            self._hello = hello
            if older is not None:
                await older.end(Over("replaced", "a newer link of this gateway took over", REPLACED))
            detail = f"version {hello.version}"
            self._note(events.LinkOpened(gateway=self._gateway.name, source=self._source, detail=detail))
            opened = True
            await until_one_ends(
                self._write(hello, welcome), self._read(welcome.ping_seconds * PINGS_MISSED), self._watch()
            )
        except Over as error:
            over = error
        finally:
            if self._gateway.link is self:
                self._gateway.link = None
            self._ended.set()
            self._audit(over, opened=opened)
            await self._close(over)

    def _audit(self, over: Over, *, opened: bool) -> None:
        gateway = self._gateway.name
        if over.close == PROTOCOL_ERROR:
            self._note(events.LinkProtocolError(gateway=gateway, source=self._source, detail=str(over)))
        if opened:
            self._note(events.LinkClosed(gateway=gateway, source=self._source, code=over.code, detail=str(over)))

    async def _close(self, over: Over) -> None:
        if over.close is None:
            if self._request.transport is not None:
                self._request.transport.abort()
            return
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(2 * CLOSE_DEADLINE):
                await self._socket.close(code=over.close, message=str(over).encode()[:120])

    # What the gateway says

    async def _receive_hello(self) -> Hello:
        message = await self._receive(HELLO_DEADLINE)
        if not isinstance(message, Hello):
            raise Over("protocol_error", f"{message.type} before hello", PROTOCOL_ERROR)
        return message

    async def _receive(self, deadline: float) -> FromGateway:
        try:
            received = await self._socket.receive(timeout=deadline)
        except TimeoutError:
            raise Over("silent", f"nothing came for {deadline:g} s", None) from None
        match received.type:
            case WSMsgType.TEXT:
                try:
                    return decode(from_gateway, received.data)
                except RemoteError as error:
                    raise Over("protocol_error", str(error), PROTOCOL_ERROR) from None
            case WSMsgType.BINARY:
                raise Over("protocol_error", "a binary message", PROTOCOL_ERROR)
            case WSMsgType.ERROR:
                # Too large, or not a WebSocket frame: aiohttp has answered with the close code that fits.
                raise Over("protocol_error", f"not a message: {received.data}", PROTOCOL_ERROR)
            case _:
                code = self._socket.close_code
                if code in {None, 1006}:
                    raise Over("lost", "the connection was lost", None)
                raise Over("closed", f"the gateway closed the link ({code})", GOING_AWAY)

    async def _read(self, deadline: float) -> None:
        while True:
            message = await self._receive(deadline)
            match message:
                case Acknowledged(seq=seq):
                    if seq > self._highest:
                        sentence = f"acknowledged {seq}, but {self._highest} is the last that was sent"
                        raise Over("protocol_error", sentence, PROTOCOL_ERROR)
                    self._acknowledged = max(self._acknowledged, seq)
                    self._gateway.acknowledged(seq)
                case Counters():
                    self._counters = message
                case Reported():
                    for report in message.reports:
                        self._note(self._gateway.remembered.event(report))
                case Hello():
                    raise Over("protocol_error", "a second hello", PROTOCOL_ERROR)
                case _:
                    assert_never(message)

    # What we say

    async def _write(self, hello: Hello, welcome: Welcome) -> None:
        await self._send(welcome)
        changes = self._gateway.changes
        if changes.resumes(hello.stream, hello.seq):
            self._sent = self._highest = self._acknowledged = hello.seq
            self._gateway.acknowledged(hello.seq)
            await self._send(Resumed(stream=changes.stream, seq=changes.last))
        else:
            if hello.stream is None:
                self._gateway.remembered.restarted()
            await self._send_snapshot()
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + welcome.ping_seconds
        while True:
            self._wake.clear()
            waiting = changes.after(self._sent)
            if waiting is None:
                await self._send_snapshot()
                continue
            for change in waiting:
                # Counted as sent before it is: its acknowledgement may be here before `send_str` returns.
                self._sent = change.seq
                self._highest = max(self._highest, change.seq)
                await self._send(change)
            try:
                async with asyncio.timeout_at(next_ping):
                    await self._wake.wait()
            except TimeoutError:
                next_ping = loop.time() + welcome.ping_seconds
                await self._send(Ping(time=self._now()))

    async def _send_snapshot(self) -> None:
        changes = self._gateway.changes
        point = changes.snapshot_point
        leases = await self._leases_for(self._gateway.name)
        served = self._served_by(self._gateway.name)
        if served is None:
            raise Over("removed", "this gateway was removed from the perimeter", REMOVED)
        for lease in leases:
            self._gateway.remembered.lease(lease)
        self._gateway.served = tuple(served)
        self._sent = point
        self._highest = max(self._highest, point)
        trust = self._trust()
        self._gateway.told_trust(trust, point)
        served_now = self._gateway.served
        snapshot = Snapshot(stream=changes.stream, seq=point, resources=served_now, leases=leases, trust=trust)
        await self._send(snapshot)

    async def _send(self, message: ToGateway) -> None:
        try:
            await self._socket.send_str(message.model_dump_json())
        except (ConnectionError, RuntimeError) as error:
            raise Over("lost", "the connection was lost", None) from error

    async def _watch(self) -> None:
        raise await self._ending
