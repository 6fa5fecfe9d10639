"""Memory of an idle tunnel: how much a relay's processes grow when a thousand tunnels stand that carry nothing.

Resident memory before and after, of every process of the relay, by the number of tunnels. A few tunnels come and go
first, so that what the first one costs (code that is loaded, pools that fill) is not counted. Each of the thousand has
carried a byte. Ours is a gateway that did nothing before, like the peers. What the kernel holds for their sockets is in
nobody's figure.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bench.figures import Bar, Row, Sense
from bench.load import Load
from bench.peers import HAPROXY
from bench.sides import OURS, Side, ours, peers, several
from bench.stage import Stage

FIRST = 20
SETTLE_SECONDS = 0.5
UNIT = "KiB"
BARS = (Bar(Sense.AT_MOST, 60), Bar(Sense.AT_MOST, 31))
_KIBI = 1024


async def measure_memory(stage: Stage, tunnels: int) -> AsyncGenerator[dict[str, Any], None]:
    """`tunnels` through either side, one after the other."""
    pid, visitor = await stage.another_gateway("fresh")
    async with peers(stage, [(HAPROXY, 1)]) as others:
        for side in (ours(visitor, pid), *others):
            await _standing(side, FIRST)
            before = side.resident()
            grown = await _standing(side, tunnels) - before
            yield {"side": side.name, "tunnels": tunnels, "resident_before": before, "grown": grown}


async def _standing(side: Side, count: int) -> int:
    """Resident bytes of the side while `count` tunnels stand."""
    loads: list[Load] = []
    try:
        await several(count, side.connect, loads)
        await asyncio.to_thread(_a_byte_each, loads)
        await asyncio.sleep(SETTLE_SECONDS)
        return side.resident()
    finally:
        await asyncio.to_thread(_close, loads)


def _a_byte_each(loads: Sequence[Load]) -> None:
    for load in loads:
        load.down(1)


def _close(loads: Sequence[Load]) -> None:
    for load in loads:
        load.close()


def memory_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """KiB for each idle tunnel, beside HAProxy's. The bar is a figure, whatever that needs."""
    tunnels = max((each["tunnels"] for each in samples), default=0)
    mine, theirs = _per_tunnel(samples, OURS), _per_tunnel(samples, HAPROXY.name)
    name = f"memory per idle tunnel, {tunnels:,} tunnels"
    return [Row(name, UNIT, mine, theirs, HAPROXY.name if theirs else "", *BARS)]


def _per_tunnel(samples: Sequence[dict[str, Any]], side: str) -> float | None:
    return next((each["grown"] / each["tunnels"] / _KIBI for each in samples if each["side"] == side), None)
