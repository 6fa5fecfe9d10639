"""CPU of a relayed gigabyte over a hundred tunnels at once, beside the same through HAProxy.

A crowd of tunnels stands through either side in each direction; each round lets one side's crowd in one
direction flow for a while. The load neither opens what comes nor waits for it, so every relay runs as fast as it can.
Bytes are those of the TLS connection, 0.2 % more than the tunnels' own, on every side.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from bench.crowd import COMMANDS, Crowd
from bench.figures import Bar, Row, Sense
from bench.peers import HAPROXY
from bench.relay import rows_by_peer
from bench.sides import Side, in_turn, ours, peers, several
from bench.stage import Stage
from bench.stream import Stream

BARS = {HAPROXY.name: (Bar(Sense.AT_MOST, 1.0, of_peer=True), Bar(Sense.AT_MOST, 0.9, of_peer=True))}


async def measure_many(stage: Stage, tunnels: int, rounds: int, seconds: float) -> AsyncGenerator[dict[str, Any], None]:
    """`seconds` of traffic over `tunnels` at once, through either side in both directions, `rounds` times."""
    async with peers(stage, [(HAPROXY, 1)]) as others, contextlib.AsyncExitStack() as stack:
        sides = [ours(stage.visitors[0], stage.gateway_pid), *others]
        crowds = {
            (side.name, direction): await stack.enter_async_context(crowd_of(side, direction, tunnels))
            for side in sides
            for direction in COMMANDS
        }
        for number in range(rounds):
            for direction in COMMANDS:
                for side in in_turn(sides, number):
                    crowd = crowds[side.name, direction]
                    flow = await asyncio.to_thread(crowd.measure, seconds, side.clock())
                    found = {"side": side.name, "direction": direction, "round": number, "tunnels": tunnels}
                    yield {**found, **asdict(flow)}


@contextlib.asynccontextmanager
async def crowd_of(side: Side, direction: str, count: int) -> AsyncIterator[Crowd]:
    """So many streams through one side."""
    async with streams_of(side, count) as streams:
        crowd = Crowd(direction, streams)
        try:
            yield crowd
        finally:
            crowd.close()


@contextlib.asynccontextmanager
async def streams_of(side: Side, count: int) -> AsyncIterator[list[Stream]]:
    """So many connected streams, closed at the end."""
    streams: list[Stream] = []
    try:
        await several(count, side.stream, streams)
        yield streams
    finally:
        for stream in streams:
            stream.close()


def many_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians of CPU seconds a gigabyte beside the peers'."""
    tunnels = max((each["tunnels"] for each in samples), default=0)
    return rows_by_peer(f"CPU per GB, {tunnels} tunnels at once", samples, BARS)
