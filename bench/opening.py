"""From knock to first byte: how long a person waits for a new tunnel.

The clock runs from before the knock is made until the resource's first byte is here: knock, TCP, mutual TLS 1.3 with
the hybrid key exchange, CONNECT, the gateway's dial, one byte asked for and received. Every tunnel comes from an
address of its own that never knocked before, so that no window is open yet and the first SYN may well come too early.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bench.figures import Bar, Row, Sense, middle, percentile
from bench.stage import Stage, Visitor
from bench.tunnel import Tunnel
from wire.tls import ClientTls

BAR = Bar(Sense.AT_MOST, 25)
FIRST_BYTE_SECONDS = 5.0
_MILLI = 1000


async def measure_openings(stage: Stage, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` tunnels, one after the other."""
    visitor = stage.visitors[0]
    tls = visitor.tls()
    for number in range(count):
        yield {"ms": await _open_once(visitor, tls, _address(number))}


async def _open_once(visitor: Visitor, tls: ClientTls, source: str) -> float:
    began = time.monotonic()
    tunnel = await Tunnel.open(visitor, tls, b"down 1\n", source)
    async with asyncio.timeout(FIRST_BYTE_SECONDS):
        first = await tunnel.first_byte
    await tunnel.close()
    return (first - began) * _MILLI


def _address(number: int) -> str:
    """An address of the loopback network that the lab does not use."""
    return f"127.251.{number // 250}.{number % 250 + 1}"


def opening_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """The median against the bar, and what the slowest of a hundred wait."""
    times = [each["ms"] for each in samples]
    return [
        Row("knock to first byte", "ms", middle(times), bar=BAR, note=f"{len(times)} tunnels"),
        Row("knock to first byte, p99", "ms", percentile(times, 99)),
    ]
