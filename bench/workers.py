"""Throughput of two workers beside one: how much of a second core becomes traffic. Beside it, HAProxy's threads.

All of it shares this machine's cores, two of them where we publish from, so a load that opened every byte would take
from the second worker what that worker is there for. This load does not: the source sends pages that are never copied,
and the client, in C (`drain`), has the kernel drop what the relay sealed. What load and source still take is in the
samples, and the note under the table says it. Only towards the client: the other way the client would have to seal.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, replace
from typing import Any

from bench.cpu import process_seconds
from bench.crowd import WARM_SECONDS
from bench.drain import Drain, compiled, compiler
from bench.figures import Bar, Row, Sense, middle
from bench.many import streams_of
from bench.peers import HAPROXY
from bench.sides import OURS, in_turn, ours, peers
from bench.stage import Stage

COUNTS = {1: "one", 2: "two"}
TUNNELS = 32
AIM = Bar(Sense.AT_LEAST, 1.5)
_GIGA = 1e9


async def measure_workers(stage: Stage, rounds: int, seconds: float) -> AsyncGenerator[dict[str, Any], None]:
    """`seconds` of traffic over many tunnels through one worker, two, and HAProxy with as many threads, in turn."""
    if compiler() is None:
        yield {"skipped": "not measured: its load needs cc (apt-get install gcc libc6-dev)"}
        return
    sides = []
    for count, name in COUNTS.items():
        pid, visitor = await stage.another_gateway(name, GLOAM_WORKERS=str(count))
        sides.append(replace(ours(visitor, pid), name=f"{OURS} {count}"))
    async with peers(stage, [(HAPROXY, count) for count in COUNTS]) as others, contextlib.AsyncExitStack() as stack:
        sides += [replace(side, name=f"{side.name} {count}") for side, count in zip(others, COUNTS, strict=False)]
        program = await stack.enter_async_context(compiled())
        drains = {}
        for side in sides:
            streams = await stack.enter_async_context(streams_of(side, TUNNELS))
            drains[side.name] = await stack.enter_async_context(Drain.of(program, streams))
        for number in range(rounds):
            for side in in_turn(sides, number):
                source = process_seconds(stage.source_pid)
                flow = await drains[side.name].measure(seconds, side.clock())
                taken = (process_seconds(stage.source_pid) - source) * seconds / (seconds + WARM_SECONDS)
                name, _, workers = side.name.rpartition(" ")
                yield {
                    "side": name,
                    "workers": int(workers),
                    "round": number,
                    **asdict(flow),
                    "source_cpu_seconds": taken,
                }


def worker_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Two to one, ours and HAProxy's; the note holds the throughput itself, and what the load took."""
    skipped = next((each["skipped"] for each in samples if "skipped" in each), "")
    samples = [each for each in samples if "side" in each]
    mine, theirs = _gain(samples, OURS), _gain(samples, HAPROXY.name)
    name = "throughput of 2 workers to that of 1"
    return [Row(name, "x", mine, theirs, HAPROXY.name if theirs else "", None, AIM, skipped or _note(samples))]


def _gain(samples: Sequence[dict[str, Any]], side: str) -> float | None:
    one, two = (_median(samples, side, count, "wall_seconds") for count in COUNTS)
    return one / two if one and two else None


def _note(samples: Sequence[dict[str, Any]]) -> str:
    said = []
    for side in (OURS, HAPROXY.name):
        rates = [_median(samples, side, count, "wall_seconds") for count in COUNTS]
        if all(rates):
            said.append(f"{side} {' and '.join(f'{1 / each:.2f}' for each in rates if each)} GB/s")
    load = _median(samples, OURS, 2, "load_cpu_seconds")
    source = _median(samples, OURS, 2, "source_cpu_seconds")
    gateway = _median(samples, OURS, 2, "cpu_seconds")
    if load is not None and source is not None and gateway is not None:
        said.append(f"CPU s/GB with 2: gateway {gateway:.2f}, load {load:.2f}, source {source:.2f}")
    return "; ".join(said)


def _median(samples: Sequence[dict[str, Any]], side: str, workers: int, what: str) -> float | None:
    """Seconds of `what` a gigabyte."""
    mine = [each for each in samples if (each["side"], each["workers"]) == (side, workers)]
    return middle([each[what] / each["bytes"] * _GIGA for each in mine])
