"""What is compared: our gateway and every peer that is installed, in front of the same resource."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import psutil
from OpenSSL import SSL

from bench.certificates import make_certificates
from bench.cpu import cpu_clock
from bench.load import SILENCE_SECONDS, Load, client_context
from bench.peers import KINDS, Kind, Peer, running
from bench.stage import PORT, Stage, Visitor
from bench.stream import Stream
from wire.limits import ALPN_TUNNEL

OURS = "gloam"
FIRST_PLACE = 201  # of the peers in the stage's block of addresses
AT_A_TIME = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """A relay under test: its process, and how the load gets a connection through it."""

    name: str
    pid: int
    dial: Callable[[], Awaitable[socket.socket]]
    context: Callable[[], SSL.Context]
    asks: tuple[str, int] | None = None  # of a gateway

    def clock(self) -> Callable[[], float]:
        """A clock of the CPU seconds its processes have used."""
        return cpu_clock(self.pid)

    def resident(self) -> int:
        """Bytes of memory its processes hold."""
        process = psutil.Process(self.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    async def connect(self) -> Load:
        """A connection to the source."""
        load = await asyncio.to_thread(Load, await self.dial(), self.context())
        if self.asks is not None:
            await asyncio.to_thread(load.connect, *self.asks)
        return load

    async def stream(self) -> Stream:
        """A connection to the source whose TLS is done in memory."""
        return await asyncio.to_thread(Stream, await self.dial(), self.context(), self.asks, SILENCE_SECONDS)


async def several(count: int, connect: Callable[[], Awaitable[T]], into: list[T]) -> None:
    """`count` connections, a few at a time; what stands is in `into`, whatever happens."""
    while count > 0:
        wanted = min(AT_A_TIME, count)
        into += await asyncio.gather(*(connect() for _ in range(wanted)))
        count -= wanted


def ours(visitor: Visitor, pid: int) -> Side:
    """Our gateway, as `visitor` reaches it."""

    def context() -> SSL.Context:  # a new one each time: the session's certificate is renewed while we measure
        return client_context(visitor.identity(), visitor.trust, ALPN_TUNNEL)

    return Side(OURS, pid, visitor.enter, context, (visitor.resource, PORT))


def knocking(side: Side, visitor: Visitor) -> Side:
    """The same side with a knock for every connection."""
    return replace(side, dial=visitor.dial)


@contextlib.asynccontextmanager
async def all_sides(stage: Stage) -> AsyncIterator[list[Side]]:
    """Ours first, then the peers, running."""
    async with peers(stage, [(kind, 1) for kind in KINDS]) as others:
        yield [ours(stage.visitors[0], stage.gateway_pid), *others]


@contextlib.asynccontextmanager
async def peers(stage: Stage, wanted: list[tuple[Kind, int]]) -> AsyncIterator[list[Side]]:
    """Those of the peers that are installed, each with so many threads."""
    directory = stage.perimeter.directory
    certificates = make_certificates(directory)
    context = client_context(certificates.client, certificates.trust)
    sides = []
    async with contextlib.AsyncExitStack() as stack:
        for place, (kind, threads) in enumerate(wanted, FIRST_PLACE):
            host = stage.perimeter.block.address(place)
            peer = await stack.enter_async_context(
                running(kind, certificates, stage.target, host, directory, threads=threads)
            )
            if peer is not None:
                sides.append(Side(peer.name, peer.pid, partial(_dial, peer), partial(_same, context)))
        yield sides


def in_turn(sides: list[Side], number: int) -> Iterator[Side]:
    """All sides, each round beginning with another."""
    turn = number % len(sides)
    yield from (*sides[turn:], *sides[:turn])


async def _dial(peer: Peer) -> socket.socket:
    return await asyncio.to_thread(socket.create_connection, (peer.host, peer.port))


def _same(context: SSL.Context) -> SSL.Context:
    return context
