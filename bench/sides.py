"""What is compared: our gateway and every peer that is installed, in front of the same resource."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from OpenSSL import SSL

from bench.certificates import make_certificates
from bench.cpu import cpu_seconds
from bench.load import Load, client_context
from bench.peers import KINDS, Peer, running
from bench.stage import PORT, RESOURCE, Stage
from wire.limits import ALPN_TUNNEL

OURS = "gloam"
FIRST_PLACE = 201  # of the peers in the stage's block of addresses


@dataclass(frozen=True, slots=True)
class Side:
    """A relay under test: its process, and how the load gets a connection through it."""

    name: str
    pid: int
    connect: Callable[[], Awaitable[Load]]

    def cpu(self) -> float:
        """CPU seconds its process has used."""
        return cpu_seconds(self.pid)


@contextlib.asynccontextmanager
async def all_sides(stage: Stage) -> AsyncIterator[list[Side]]:
    """Ours first, then the peers, running."""
    directory = stage.perimeter.directory
    certificates = make_certificates(directory)
    context = client_context(certificates.client, certificates.trust)
    sides = [Side(OURS, stage.gateway_pid, partial(_through_gateway, stage))]
    async with contextlib.AsyncExitStack() as stack:
        for place, kind in enumerate(KINDS, FIRST_PLACE):
            host = stage.perimeter.block.address(place)
            peer = await stack.enter_async_context(running(kind, certificates, stage.target, host, directory))
            if peer is not None:
                sides.append(Side(peer.name, peer.pid, partial(_through_peer, peer, context)))
        yield sides


def in_turn(sides: list[Side], number: int) -> Iterator[Side]:
    """All sides, each round beginning with another."""
    turn = number % len(sides)
    yield from (*sides[turn:], *sides[:turn])


async def _through_gateway(stage: Stage) -> Load:
    visitor = stage.visitors[0]
    context = client_context(visitor.identity(), visitor.trust, ALPN_TUNNEL)
    load = await asyncio.to_thread(Load, await visitor.dial(), context)
    await asyncio.to_thread(load.connect, RESOURCE, PORT)
    return load


async def _through_peer(peer: Peer, context: SSL.Context) -> Load:
    sock = await asyncio.to_thread(socket.create_connection, (peer.host, peer.port))
    return await asyncio.to_thread(Load, sock, context)
