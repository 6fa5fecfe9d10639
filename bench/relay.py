"""CPU of a relayed gigabyte: the gateway process, then each peer, in turn, round after round.

Only the relay's own process is counted, from after the handshake and a warm-up to the last byte. Every round measures
every side in both directions, in an order that changes, so that whatever else the machine does meets all alike.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any

from bench.figures import Bar, Row, Sense, middle
from bench.peers import KINDS
from bench.sides import OURS, Side, all_sides, in_turn
from bench.stage import Stage

GIGABYTE = 1e9
DIRECTIONS = {"down": "relay to client", "up": "relay from client"}
BAR = Bar(Sense.AT_MOST, 1.0, of_peer=True)
UNIT = "CPU s/GB"


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
        transfer = await asyncio.to_thread(load.measure, direction, count, side.cpu)
    finally:
        await asyncio.to_thread(load.close)
    return {"bytes": count, **asdict(transfer)}


def relay_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians of CPU seconds a gigabyte; the bar is HAProxy's."""
    rows = []
    for direction, name in DIRECTIONS.items():
        ours = per_gigabyte(samples, OURS, direction)
        peers = {kind.name: per_gigabyte(samples, kind.name, direction) for kind in KINDS}
        if not any(peers.values()):
            rows.append(Row(name, UNIT, ours, bar=BAR))
        rows += [
            Row(name, UNIT, ours, peer, peer_name, BAR if peer_name == KINDS[0].name else None)
            for peer_name, peer in peers.items()
            if peer
        ]
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
