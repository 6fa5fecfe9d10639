"""What a legitimate user sees during an attack: garbage at line rate, and handshakes that never go on.

The attack is that of `lab.garbage` (datagrams as long as knocks, 50,000 a second) and `lab.squatter` (a stolen knock
key: 2,000 TLS connections from 32 addresses that have a window, each opened anew when the gateway throws it out).
Meanwhile tunnels are opened as `bench.opening` opens them, from addresses of their own; one that has no first byte
within five seconds has failed. Attackers, gateway, resource and user share the machine.
"""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from bench.cpu import cpu_seconds
from bench.figures import Bar, Row, Sense, middle, percentile
from bench.stage import GATEWAY, GROUP, RESOURCE, Stage, Visitor
from bench.tunnel import Tunnel
from console.address import HostPort
from lab.addresses import KNOCK_PORT
from lab.processes import Process
from wire.tls import ClientTls

RATE = 50_000
HALF_OPEN = 2_000
SQUATTERS = 32  # addresses; one key holds windows for 64 at most
FIRST_BYTE_SECONDS = 5.0
SUCCEED = Bar(Sense.AT_LEAST, 100)
SLOWEST, SLOWEST_AIM = Bar(Sense.AT_MOST, 250), Bar(Sense.AT_MOST, 100)
_MILLI = 1000


async def measure_flood(stage: Stage, count: int) -> AsyncGenerator[dict[str, Any], None]:
    """`count` tunnels while all is calm, and as many during the attack."""
    visitor = stage.visitors[0]
    for number in range(count):
        yield {"during": "calm", "ms": await _open(visitor, visitor.tls(), _address(0, number))}
    async with _attack(stage):
        before, cpu, began = await _garbage_judged(stage), cpu_seconds(stage.gateway_pid), time.monotonic()
        for number in range(count):
            yield {"during": "attack", "ms": await _open(visitor, visitor.tls(), _address(1, number))}
        seconds = time.monotonic() - began
        judged = await _garbage_judged(stage) - before
        cpu = cpu_seconds(stage.gateway_pid) - cpu
    yield {"during": "after", "garbage_per_second": judged / seconds, "gateway_cores": cpu / seconds}


@contextlib.asynccontextmanager
async def _attack(stage: Stage) -> AsyncIterator[None]:
    """Both attackers at work."""
    perimeter = stage.perimeter
    await perimeter.add_user("mallory", groups=[GROUP])
    stolen = await perimeter.add_client("mallory")
    await stolen.login("mallory")
    knock = str(HostPort(perimeter.gateways[GATEWAY], KNOCK_PORT))
    addresses = [f"127.253.0.{number + 1}" for number in range(SQUATTERS)]
    squatter = [sys.executable, "-m", "lab.squatter", str(stolen.state), RESOURCE, str(HALF_OPEN), *addresses]
    garbage = [sys.executable, "-m", "lab.garbage", knock, str(RATE), perimeter.block.stranger]
    async with contextlib.AsyncExitStack() as stack:
        for name, argv in (("squatter", squatter), ("garbage", garbage)):
            process = await Process.start(name, argv, log=perimeter.directory / f"{name}.log")
            stack.push_async_callback(process.kill)
            await process.ready()
        yield


async def _open(visitor: Visitor, tls: ClientTls, source: str) -> float | None:
    """Milliseconds from the knock to the first byte; None: it did not come."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(FIRST_BYTE_SECONDS):
            tunnel = await Tunnel.open(visitor, tls, b"down 1\n", source)
            first = await tunnel.first_byte
            await tunnel.close()
    except (OSError, RuntimeError):  # TimeoutError, Unreachable and TlsRefused among them
        return None
    return (first - began) * _MILLI


async def _garbage_judged(stage: Stage) -> int:
    counters = (await stage.perimeter.gateway_status(GATEWAY))["counters"]
    return int(counters.get("dropped.locator", 0))


def _address(run: int, number: int) -> str:
    """An address of the loopback network that nobody else of the benchmark uses."""
    return f"127.254.{run * 100 + number // 250}.{number % 250 + 1}"


def flood_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """How many got through, and how long the slowest of a hundred took, beside the same while all was calm."""
    during, calm = ([each["ms"] for each in samples if each["during"] == when] for when in ("attack", "calm"))
    if not during:
        return []
    came = [each for each in during if each is not None]
    slowest = percentile([math.inf if each is None else each for each in during], 99)
    quiet = [each for each in calm if each is not None]
    what = f"{RATE:,} garbage/s and {HALF_OPEN:,} half-open handshakes"
    return [
        Row(
            f"set-ups that succeed, {what}",
            "%",
            100 * len(came) / len(during),
            bar=SUCCEED,
            aim=SUCCEED,
            note=_note(samples, len(during)),
        ),
        Row(
            "knock to first byte meanwhile, p99",
            "ms",
            slowest if slowest is not None and math.isfinite(slowest) else None,
            bar=SLOWEST,
            aim=SLOWEST_AIM,
            note=f"median {_shown(middle(came))}; while all is calm {_shown(middle(quiet))}, "
            f"p99 {_shown(percentile(quiet, 99))}",
        ),
    ]


def _note(samples: Sequence[dict[str, Any]], count: int) -> str:
    after = next((each for each in samples if each["during"] == "after"), None)
    if after is None:
        return f"of {count}"
    return (
        f"of {count}; the gateway judged {after['garbage_per_second']:,.0f} garbage datagrams a second and took "
        f"{after['gateway_cores']:.2f} cores, all of it together"
    )


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"
