"""From revoke to cut, with a thousand live tunnels of one session.

The clock starts before the administrator's request is sent over the controller's Unix socket (`session revoke` without
the start-up of the command) and stops, tunnel by tunnel, when the kernel tells the client that its connection has
ended. The source sends a byte through every tunnel every second, so each is live, and is seen to be before the clock
starts. The clients' side is one thread that waits for all ends and does nothing else: it must not take from the cores
what the cut needs.
"""

import asyncio
import select
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bench.figures import Bar, Row, Sense, middle, percentile
from bench.load import Load
from bench.sides import ours, several
from bench.stage import GATEWAY, Stage, Visitor
from controller.admin.client import call

BARS = (Bar(Sense.AT_MOST, 250), Bar(Sense.AT_MOST, 100))
TICK_MILLISECONDS = 1000
CUT_SECONDS = 10
_MILLI = 1000


async def measure_revocations(
    stage: Stage, visitors: Sequence[Visitor], tunnels: int
) -> AsyncGenerator[dict[str, Any], None]:
    """One revocation of each visitor's session; those sessions are over afterwards."""
    for visitor in visitors:
        yield await _revoke(stage, visitor, tunnels)


async def _revoke(stage: Stage, visitor: Visitor, count: int) -> dict[str, Any]:
    side, live = ours(visitor, stage.gateway_pid), list[Load]()
    try:
        await several(count, side.connect, live)
        await asyncio.to_thread(_tick, live)
        status = await stage.perimeter.gateway_status(GATEWAY)
        state = stage.perimeter.controller_state
        arguments = {"id": None, "user": visitor.user, "device": None, "reason": "benchmark"}
        waiting = asyncio.create_task(asyncio.to_thread(_ends, live))
        await asyncio.sleep(0)  # its thread has begun
        began = time.monotonic()
        document = await asyncio.to_thread(call, state, "session.revoke", **arguments)
        cuts = await waiting
    finally:
        for load in live:
            load.close()
    mine = [each for each in status["tunnels"] if each["session"] == str(visitor.session)]
    return {
        "live_at_gateway": len(mine),
        "controller_ms": document["milliseconds"],
        "lagging": document["lagging"],
        "cut_ms": [round((each - began) * _MILLI, 3) for each in cuts],
    }


def _tick(live: Sequence[Load]) -> None:
    for load in live:
        load.tick(TICK_MILLISECONDS)


def _ends(live: Sequence[Load]) -> list[float]:
    """When each connection ended, by the monotonic clock."""
    ends: list[float] = []
    deadline = time.monotonic() + CUT_SECONDS
    with select.epoll() as poll:
        for load in live:
            poll.register(load, select.EPOLLRDHUP)
        while len(ends) < len(live):
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError(f"{len(live) - len(ends)} tunnels were not cut within {CUT_SECONDS} s")
            found = poll.poll(left)
            now = time.monotonic()
            for number, _ in found:
                poll.unregister(number)
                ends.append(now)
    return ends


def revocation_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """The slowest of a hundred cuts against the bar, the median, and what the controller reported."""
    cuts = [cut for each in samples for cut in each["cut_ms"]]
    live = min((each["live_at_gateway"] for each in samples), default=0)
    note = f"{len(cuts):,} cuts in {len(samples)} revocations, {live:,} tunnels live in each"
    return [
        Row(f"revoke to cut, {live:,} live tunnels, p99", "ms", percentile(cuts, 99), None, "", *BARS, note=note),
        Row("revoke to cut, median", "ms", middle(cuts)),
        Row("revoke acknowledged", "ms", middle([each["controller_ms"] for each in samples])),
    ]
