"""CPU of a new tunnel: TCP, mutual TLS 1.3, CONNECT, the dial to the resource, one byte, and the end of it all.

What is held against HAProxy leaves the knock out: one knock opens a window, and every counted connection comes within
it. Beside it stands the same with a knock for each. On the on-demand cloak a window ends with its connection, so there
every connection knocks, and the note says so. Ours still does more than a peer: ML-KEM besides X25519 (their OpenSSL
has none), the lease, and the tunnel's report to the controller, which is waited for before the CPU clock is read.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from bench.figures import Bar, Row, Sense, middle
from bench.peers import HAPROXY, KINDS
from bench.sides import OURS, Side, all_sides, in_turn, knocking
from bench.stage import Stage

NAME = "CPU per new tunnel, knock excluded"
KNOCKING = "gloam, each knocks"
UNIT = "CPU ms"
SETTLE_SECONDS = 0.3  # closed connections and reports are dealt with by then
BARS = (Bar(Sense.AT_MOST, 1.2, of_peer=True), Bar(Sense.AT_MOST, 1.0, of_peer=True))
_MILLI = 1000


async def measure_connections(stage: Stage, rounds: int, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` connections, one after the other, through every side, `rounds` times."""
    async with all_sides(stage) as sides:
        sides.insert(1, replace(knocking(sides[0], stage.visitors[0]), name=KNOCKING))
        for number in range(rounds):
            for side in in_turn(sides, number):
                await _connect(side)  # ours: the window is open now
                await asyncio.sleep(SETTLE_SECONDS)
                cpu = side.clock()
                before = cpu()
                for _ in range(count):
                    await _connect(side)
                await asyncio.sleep(SETTLE_SECONDS)
                sample = {"side": side.name, "round": number, "connections": count, "cpu_seconds": cpu() - before}
                yield {**sample, "cloak": stage.cloak}


async def _connect(side: Side) -> None:
    load = await side.connect()
    await asyncio.to_thread(load.down, 1)
    await asyncio.to_thread(load.close)


def connection_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians beside each peer's, and ours with a knock for each connection."""
    ours, knocks = _per_connection(samples, OURS), _per_connection(samples, KNOCKING)
    always = any(each.get("cloak") == "on-demand" for each in samples)
    note = "the on-demand cloak has every connection knock: knocks are included" if always else ""
    beside = {kind.name: _per_connection(samples, kind.name) for kind in KINDS}
    rows = [
        Row(NAME, UNIT, ours, peer, name, *(BARS if name == HAPROXY.name else (None, None)))
        for name, peer in beside.items()
        if peer
    ] or [Row(NAME, UNIT, ours, None, "", *BARS)]
    rows.append(Row("CPU per new tunnel, each with its knock", UNIT, knocks))
    return [replace(row, note=note) for row in rows]


def _per_connection(samples: Sequence[dict[str, Any]], side: str) -> float | None:
    mine = [each for each in samples if each["side"] == side]
    return middle([each["cpu_seconds"] / each["connections"] * _MILLI for each in mine])
