"""CPU of a connection: TCP, mutual TLS 1.3, the dial to the resource, one byte, and the end of it all.

Ours does more in that: it judges a knock, exchanges keys with ML-KEM besides X25519 (the peers' OpenSSL has none),
parses CONNECT, asks the lease, and reports the tunnel to its controller. So there is no bar, only figures side by side.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bench.figures import Row, middle
from bench.peers import KINDS
from bench.sides import OURS, all_sides, in_turn
from bench.stage import Stage

NAME = "connection"
UNIT = "CPU ms"
_MILLI = 1000


async def measure_connections(stage: Stage, rounds: int, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` connections, one after the other, through every side, `rounds` times."""
    async with all_sides(stage) as sides:
        for number in range(rounds):
            for side in in_turn(sides, number):
                before = side.cpu()
                for _ in range(count):
                    load = await side.connect()
                    await asyncio.to_thread(load.down, 1)
                    await asyncio.to_thread(load.close)
                taken = side.cpu() - before
                yield {"side": side.name, "round": number, "connections": count, "cpu_seconds": taken}


def connection_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians beside each peer's."""
    figures = {name: _per_connection(samples, name) for name in (OURS, *(kind.name for kind in KINDS))}
    ours = figures.pop(OURS)
    beside = [Row(NAME, UNIT, ours, peer, name) for name, peer in figures.items() if peer]
    return beside or [Row(NAME, UNIT, ours)]


def _per_connection(samples: Sequence[dict[str, Any]], side: str) -> float | None:
    mine = [each for each in samples if each["side"] == side]
    return middle([each["cpu_seconds"] / each["connections"] * _MILLI for each in mine])
