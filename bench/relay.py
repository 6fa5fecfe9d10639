"""CPU of a relayed gigabyte: the gateway, then each peer, in turn, round after round.

Only the relay's own processes are counted, from after the handshake and a warm-up to the last byte. Every round
measures every side in both directions, in an order that changes, so that whatever else the machine does meets all
alike.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.figures import Bar, Row, Sense, middle
from bench.peers import HAPROXY, KINDS, STUNNEL
from bench.sides import OURS, Side, all_sides, in_turn
from bench.stage import Stage

GIGABYTE = 1e9
DIRECTIONS = {"down": "to client", "up": "from client"}
NAME = "CPU per GB, one tunnel"
UNIT = "CPU s/GB"


def _ratio(bound: float) -> Bar:
    return Bar(Sense.AT_MOST, bound, of_peer=True)


BARS = {HAPROXY.name: (_ratio(0.95), _ratio(0.85)), STUNNEL.name: (_ratio(0.85), _ratio(0.75))}
Bars = Mapping[str, tuple[Bar, Bar]]


async def measure_relays(stage: Stage, rounds: int, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """One transfer of `count` bytes through every side in both directions, `rounds` times."""
    async with all_sides(stage) as sides:
        for number in range(rounds):
            for direction in DIRECTIONS:
                for side in in_turn(sides, number):
                    sample = await _transfer(side, direction, count)
                    yield {"side": side.name, "direction": direction, "round": number, **sample}


async def _transfer(side: Side, direction: str, count: int) -> dict[str, Any]:
    load = await side.connect()
    try:
        transfer = await asyncio.to_thread(load.measure, direction, count, side.clock())
    finally:
        await asyncio.to_thread(load.close)
    return {"bytes": count, **asdict(transfer)}


def relay_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians of CPU seconds a gigabyte beside the peers'."""
    return rows_by_peer(NAME, samples, BARS)


def rows_by_peer(name: str, samples: Sequence[dict[str, Any]], bars: Bars) -> list[Row]:
    """For each direction a row a peer; `bars` holds the bar and the aim beside a peer, by its name."""
    rows = []
    for direction, words in DIRECTIONS.items():
        title, ours = f"{name}, {words}", per_gigabyte(samples, OURS, direction)
        beside = {kind.name: per_gigabyte(samples, kind.name, direction) for kind in KINDS}
        rows += [
            Row(title, UNIT, ours, peer, peer_name, *bars.get(peer_name, (None, None)))
            for peer_name, peer in beside.items()
            if peer
        ] or [Row(title, UNIT, ours, None, "", *bars[HAPROXY.name])]
    return rows


def per_gigabyte(samples: Sequence[dict[str, Any]], side: str, direction: str) -> float | None:
    """The median CPU seconds a gigabyte of one side in one direction."""
    return middle(
        [
            each["cpu_seconds"] / each["bytes"] * GIGABYTE
            for each in samples
            if each["side"] == side and each["direction"] == direction
        ]
    )
