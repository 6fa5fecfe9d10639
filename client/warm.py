"""Warm connections: made before somebody needs them, so that opening a tunnel costs one round trip.

Laws:

1. A warm connection belongs to the certificate it was made with. When the session has another (renewed, replaced,
   ended) it is closed, never asked.
2. How many, how old and when is `client.warmth`'s. Nobody waits for one, and one that cannot be made is no news.
3. What a connection may do is judged when it is asked: a warm one may open nothing that a fresh one may not.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from certs.errors import CertsError
from client.connection import Connection
from client.dial import CannotReach
from client.warmth import Warmth, too_old
from console.errors import CommandError
from wire.errors import WireError
from wire.tls import ClientTls


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway to be warm at, and how to connect there: as whom, and the connection."""

    gateway: str
    connect: Callable[[], Awaitable[tuple[ClientTls, Connection]]]


@dataclass(frozen=True, slots=True)
class _Ready:
    connection: Connection
    gateway: str
    tls: ClientTls
    made: float

    @property
    def useful(self) -> bool:
        """Whether it can still be asked."""
        ended = not self.connection.alive or self.connection.transport.is_closing()
        return not (ended or too_old(self.made, _now()))


class Warm:
    """The warm connections of one command, at the gateway it used last. `keep` owns them."""

    def __init__(self, most: int) -> None:
        self._warmth = Warmth(most)
        self._place: Place | None = None
        self._ready: deque[_Ready] = deque()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def use(self, place: Place) -> None:
        """A tunnel was, or is soon to be, opened there: be warm there."""
        self._place = place
        self._warmth.used(_now())
        self._changed.set()

    def take(self, gateway: str, tls: ClientTls) -> Connection | None:
        """A connection to this gateway as this session, to be asked now; the caller's from here on."""
        while self._ready:
            ready = self._ready.popleft()
            if ready.useful and ready.gateway == gateway and ready.tls is tls:
                return ready.connection
            _close(ready)
        return None

    async def keep(self) -> None:
        """Makes and closes connections as they are wanted. Runs until it is cancelled; then all are closed."""
        try:
            while True:
                self._changed.clear()
                self._close_old()
                if self._place is not None and self._warmth.wanted(len(self._ready), _now()):
                    await self._make(self._place)
                else:
                    await self._until_due()
        finally:
            while self._ready:
                _close(self._ready.popleft())

    async def _make(self, place: Place) -> None:
        try:
            tls, connection = await place.connect()
        except (CannotReach, CommandError, CertsError, WireError, OSError):
            self._warmth.failed()
            return
        if connection.alive:
            connection.on_end = self._ended
            self._ready.append(_Ready(connection, place.gateway, tls, _now()))
        else:
            self._warmth.ended(_now())

    async def _until_due(self) -> None:
        oldest = self._ready[0].made if self._ready else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._warmth.wake_at(len(self._ready), oldest, _now())):
                await self._changed.wait()

    def _close_old(self) -> None:
        while self._ready and too_old(self._ready[0].made, _now()):
            _close(self._ready.popleft())
            self._warmth.ended(_now())

    def _ended(self, connection: Connection) -> None:
        self._ready = deque(each for each in self._ready if each.connection is not connection)
        self._warmth.ended(_now())
        self._changed.set()


def _close(ready: _Ready) -> None:
    ready.connection.on_end = lambda _connection: None
    ready.connection.transport.abort()  # neither side owes the other anything


def _now() -> float:
    return asyncio.get_running_loop().time()
