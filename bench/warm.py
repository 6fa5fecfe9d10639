"""Opening a tunnel on a connection that is already there, as the client keeps them: one round trip, and the dial.

Twice. With the client's library in this process: from asking it for a tunnel to the tunnel, which the gateway has then
accepted and whose resource it has reached. And through a running `gloam forward`: from connecting to its local port to
the resource's first byte, which is everything an application waits for. Before each opening the warm connections have
been made again.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from bench.figures import Bar, Row, Sense, middle, percentile
from bench.stage import RESOURCE, Stage, Visitor
from client.agent.messages import RouteAnswer
from client.reach import find_way
from client.session import Target
from client.tunnel import Tunnels
from lab.processes import LabError

KEPT = 2
LIBRARY, FORWARD = "library", "forward"
REST_SECONDS = 0.05  # a forward cannot be asked whether it is warm again
LOOKS, LOOK_SECONDS = 1000, 0.005
FIRST_BYTE_SECONDS = 5.0
BARS = (Bar(Sense.AT_MOST, 3), Bar(Sense.AT_MOST, 1))
_MILLI = 1000


async def measure_warm(stage: Stage, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` tunnels by either way, one after the other."""
    visitor = stage.visitors[0]
    async with _library(visitor) as (tunnels, way):
        for _ in range(count):
            await _warm_again(tunnels)
            yield {"how": LIBRARY, "ms": await _open(tunnels, way)}
    process, host, port = await stage.perimeter.clients[visitor.user].forward(RESOURCE)
    try:
        for _ in range(count):
            await asyncio.sleep(REST_SECONDS)
            yield {"how": FORWARD, "ms": await asyncio.to_thread(_ask, host, port)}
    finally:
        await process.stop()


@contextlib.asynccontextmanager
async def _library(visitor: Visitor) -> AsyncIterator[tuple[Tunnels, RouteAnswer]]:
    """The client's tunnels, with warm connections being kept."""
    way = await find_way(visitor.state, Target(RESOURCE))
    tunnels = Tunnels(visitor.state, visitor.state.profile(), warm=KEPT)
    keeping = asyncio.create_task(tunnels.warm.keep())
    try:
        tunnels.be_warm(way)
        yield tunnels, way
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _warm_again(tunnels: Tunnels) -> None:
    for _ in range(LOOKS):
        if len(tunnels.warm) == KEPT:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise LabError("the client keeps no warm connections")


async def _open(tunnels: Tunnels, way: RouteAnswer) -> float:
    began = time.monotonic()
    tunnel = await tunnels.open(way)
    taken = time.monotonic() - began
    tunnel.abort()
    return taken * _MILLI


def _ask(host: str, port: int) -> float:
    began = time.monotonic()
    with socket.create_connection((host, port), FIRST_BYTE_SECONDS) as local:
        local.sendall(b"down 1\n")
        if not local.recv(1):
            raise RuntimeError("gloam forward ended a connection before its first byte")
        return (time.monotonic() - began) * _MILLI


def warm_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """The median against the bar, and what an application behind `gloam forward` waits."""
    name = "open a tunnel on a warm connection"
    library, forward = ([each["ms"] for each in samples if each["how"] == how] for how in (LIBRARY, FORWARD))
    return [
        Row(name, "ms", middle(library), None, "", *BARS, note=f"{len(library)} tunnels"),
        Row(f"{name}, p99", "ms", percentile(library, 99)),
        Row("gloam forward to first byte, warm", "ms", middle(forward), note=f"{len(forward)} tunnels"),
    ]
