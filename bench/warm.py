"""Opening a tunnel on a connection that is already there: CONNECT, the lease, the dial, the first byte.

A connection is brought as far as the client's agent keeps them (knock, TCP, mutual TLS) and rests a while. The clock
then runs from before CONNECT is written until the resource's first byte is here.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from bench.figures import Bar, Row, Sense, middle, percentile
from bench.load import Load
from bench.sides import ours
from bench.stage import PORT, RESOURCE, Stage

REST_SECONDS = 0.02
BARS = (Bar(Sense.AT_MOST, 3), Bar(Sense.AT_MOST, 1))
_MILLI = 1000


async def measure_warm(stage: Stage, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` tunnels, one after the other."""
    waiting = replace(ours(stage.visitors[0], stage.gateway_pid), asks=None)
    for _ in range(count):
        load = await waiting.connect()
        await asyncio.sleep(REST_SECONDS)
        yield {"ms": await asyncio.to_thread(_open, load)}


def _open(load: Load) -> float:
    began = time.monotonic()
    load.connect(RESOURCE, PORT)
    load.down(1)
    taken = time.monotonic() - began
    load.close()
    return taken * _MILLI


def warm_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """The median against the bar, and what the slowest of a hundred wait."""
    times = [each["ms"] for each in samples]
    return [
        Row("open a tunnel on a warm connection", "ms", middle(times), None, "", *BARS, note=f"{len(times)} tunnels"),
        Row("open a tunnel on a warm connection, p99", "ms", percentile(times, 99)),
    ]
