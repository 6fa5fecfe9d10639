"""CPU of a new tunnel: TCP, mutual TLS 1.3, CONNECT, the dial to the resource, one byte, and the end of it all.

`AT_ONCE` clients open tunnels side by side, as at a gateway that has enough to do for its CPU to matter; a row of its
own shows what one costs that comes alone, when every process has been asleep and its caches are cold.

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
ALONE = "CPU per new tunnel, one after the other"
KNOCKING = "gloam, each knocks"
AT_ONCE = 8
UNIT = "CPU ms"
SETTLE_SECONDS = 0.3  # closed connections and reports are dealt with by then
BARS = (Bar(Sense.AT_MOST, 1.2, of_peer=True), Bar(Sense.AT_MOST, 1.0, of_peer=True))
_MILLI = 1000


async def measure_connections(stage: Stage, rounds: int, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` connections, `AT_ONCE` side by side and then one by one, through every side, `rounds` times."""
    async with all_sides(stage) as sides:
        sides.insert(1, replace(knocking(sides[0], stage.visitors[0]), name=KNOCKING))
        for number in range(rounds):
            for at_once in (AT_ONCE, 1):
                for side in in_turn(sides, number):
                    if at_once == 1 and side.name == KNOCKING:
                        continue
                    yield {
                        "side": side.name,
                        "round": number,
                        "at_once": at_once,
                        "connections": count,
                        "cpu_seconds": await _cpu_of(side, count, at_once),
                        "cloak": stage.cloak,
                    }


async def _cpu_of(side: Side, count: int, at_once: int) -> float:
    """CPU seconds of `count` connections (a multiple of `at_once`)."""
    await _connect(side)  # ours: the window is open now
    await asyncio.sleep(SETTLE_SECONDS)
    cpu = side.clock()
    before = cpu()
    for _ in range(count // at_once):
        await asyncio.gather(*(_connect(side) for _ in range(at_once)))
    await asyncio.sleep(SETTLE_SECONDS)
    return cpu() - before


async def _connect(side: Side) -> None:
    load = await side.connect()
    await asyncio.to_thread(load.down, 1)
    await asyncio.to_thread(load.close)


def connection_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians beside each peer's, side by side and alone, and ours with a knock for each connection."""
    together = [each for each in samples if each["at_once"] > 1]
    alone = [each for each in samples if each["at_once"] == 1]
    always = any(each.get("cloak") == "on-demand" for each in samples)
    note = "the on-demand cloak has every connection knock: knocks are included" if always else ""
    rows = [
        *_beside_peers(NAME, together, BARS),
        Row("CPU per new tunnel, each with its knock", UNIT, _per_connection(together, KNOCKING)),
        *_beside_peers(ALONE, alone, (None, None)),
    ]
    return [replace(row, note=note) for row in rows]


def _beside_peers(name: str, samples: Sequence[dict[str, Any]], bars: tuple[Bar, Bar] | tuple[None, None]) -> list[Row]:
    ours = _per_connection(samples, OURS)
    beside = {kind.name: _per_connection(samples, kind.name) for kind in KINDS}
    return [
        Row(name, UNIT, ours, peer, kind, *(bars if kind == HAPROXY.name else (None, None)))
        for kind, peer in beside.items()
        if peer
    ] or [Row(name, UNIT, ours, None, "", *bars)]


def _per_connection(samples: Sequence[dict[str, Any]], side: str) -> float | None:
    mine = [each for each in samples if each["side"] == side]
    return middle([each["cpu_seconds"] / each["connections"] * _MILLI for each in mine])
