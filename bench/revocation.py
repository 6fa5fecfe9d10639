"""From revoke to cut, with many live tunnels of one session.

The clock starts before the administrator's request is sent over the controller's Unix socket (`session revoke` without
the start-up of the command) and stops, tunnel by tunnel, when the client sees its connection end. The source sends a
byte through every tunnel twenty times a second, so each is live, and is seen to be before the clock starts.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bench.figures import Bar, Row, Sense, middle, percentile
from bench.stage import GATEWAY, Stage, Visitor
from bench.tunnel import Tunnel
from controller.admin.client import call

BAR = Bar(Sense.AT_MOST, 100)
AT_A_TIME = 10
CUT_SECONDS = 10
_MILLI = 1000


async def measure_revocations(
    stage: Stage, visitors: Sequence[Visitor], tunnels: int
) -> AsyncGenerator[dict[str, Any], None]:
    """One revocation of each visitor's session; those sessions are over afterwards."""
    for visitor in visitors:
        yield await _revoke(stage, visitor, tunnels)


async def _revoke(stage: Stage, visitor: Visitor, count: int) -> dict[str, Any]:
    tls = visitor.tls()
    live: list[Tunnel] = []
    while len(live) < count:
        wanted = min(AT_A_TIME, count - len(live))
        live += await asyncio.gather(*(Tunnel.open(visitor, tls, b"tick\n") for _ in range(wanted)))
    await asyncio.wait_for(asyncio.gather(*(tunnel.first_byte for tunnel in live)), CUT_SECONDS)
    status = await stage.perimeter.gateway_status(GATEWAY)
    state = stage.perimeter.controller_state
    arguments = {"id": None, "user": visitor.user, "device": None, "reason": "benchmark"}
    began = time.monotonic()
    revoked = asyncio.create_task(asyncio.to_thread(call, state, "session.revoke", **arguments))
    cuts = await asyncio.wait_for(asyncio.gather(*(tunnel.ended for tunnel in live)), CUT_SECONDS)
    document = await revoked
    return {
        "live_at_gateway": len(status["tunnels"]),
        "controller_ms": document["milliseconds"],
        "lagging": document["lagging"],
        "cut_ms": [(each - began) * _MILLI for each in cuts],
    }


def revocation_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """The slowest of a hundred cuts against the bar, the median, and what the controller reported."""
    cuts = [cut for each in samples for cut in each["cut_ms"]]
    live = min((each["live_at_gateway"] for each in samples), default=0)
    note = f"{len(cuts)} cuts in {len(samples)} revocations, {live} tunnels live in each"
    return [
        Row("revoke to cut, p99", "ms", percentile(cuts, 99), bar=BAR, note=note),
        Row("revoke to cut", "ms", middle(cuts)),
        Row("revoke acknowledged", "ms", middle([each["controller_ms"] for each in samples])),
    ]
