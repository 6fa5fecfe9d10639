"""Knocks and garbage a core takes, through the real door's UDP socket in a process of its own; beside it, fwknopd.

The figure held against the bar is datagrams judged (the door's own counters) by CPU seconds of the door's process: what
one core would do if it did nothing else. Beside it stands what went through on the wall clock, sender and door
sharing this machine; datagrams the kernel dropped because the door had not read them yet count in neither.
"""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from bench.cpu import process_seconds
from bench.figures import Bar, Row, Sense, middle
from bench.fwknop import MANY_KEYS
from bench.peers import FWKNOPD
from lab.processes import LabError

HOST = "127.0.0.1"
MANY_SOURCES = 1000
RATE = 30_000  # valid knocks offered a second: twice the bar
START_SECONDS = 60  # a hundred thousand leases are made first
END_SECONDS = 5
CALM_SECONDS = 0.02  # two looks at the counters this far apart that agree: the queue is empty
KNOCK_BARS = (Bar(Sense.AT_LEAST, 15_000), Bar(Sense.AT_LEAST, 30_000))
GARBAGE_BARS = (Bar(Sense.AT_LEAST, 100_000), Bar(Sense.AT_LEAST, 150_000))
UNIT = "/CPU s"


class _Child:
    """A Python module that says lines and hears lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, module: str, *arguments: str) -> AsyncIterator["_Child"]:
        pipe = asyncio.subprocess.PIPE
        argv = [sys.executable, "-m", module, *arguments]
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        try:
            yield cls(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # both modules end with their input
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def hear(self) -> str:
        if self.process.stdout is None or not (line := await self.process.stdout.readline()):
            raise LabError("a process of the knock benchmark ended early; what it said is above")
        return line.decode()

    async def ask(self) -> str:
        if self.process.stdin is not None:
            self.process.stdin.write(b"\n")
        return await self.hear()


async def measure_knocks(
    *, leases: int, rounds: int, knocks: int, garbage_for: float, cloak: str
) -> AsyncGenerator[dict[str, Any], None]:
    """`rounds` of valid knocks from one address, from many, and of garbage from many."""
    seed = secrets.token_hex(32)
    async with _Child.running("bench.knock_server", seed, str(leases), cloak, HOST) as door:
        _, port, knock_port = (await asyncio.wait_for(door.hear(), START_SECONDS)).split()
        common = ["--host", HOST, "--port", port, "--knock-port", knock_port, "--seed", seed, "--leases", str(leases)]
        valid = ["valid", *common, "--count", str(knocks), "--rate", str(RATE)]
        garbage = ["garbage", *common, "--seconds", str(garbage_for)]
        for number in range(rounds):
            for kind, sources in ((valid, 1), (valid, MANY_SOURCES), (garbage, MANY_SOURCES)):
                sample = await _burst(door, [*kind, "--sources", str(sources)])
                yield {"kind": kind[0], "sources": sources, "leases": leases, "round": number, **sample}


async def _burst(door: _Child, arguments: Sequence[str]) -> dict[str, Any]:
    async with _Child.running("bench.knock_sender", *arguments) as sender:
        await sender.hear()
        before = await _calm(door)
        cpu, began = process_seconds(door.process.pid), time.monotonic()
        sent = int(await sender.ask())
        elapsed = time.monotonic() - began
        after = await _calm(door)
        cpu = process_seconds(door.process.pid) - cpu
    counted = {
        key: after[key] - before.get(key, 0) for key in after if isinstance(after[key], int) and key != "windows"
    }
    changed = {key: value for key, value in counted.items() if value}
    return {"sent": sent, "counted": changed, "cpu_seconds": cpu, "wall_seconds": elapsed, "cloak": after["cloak"]}


async def _calm(door: _Child) -> dict[str, Any]:
    """The counters once they stand still."""
    last: dict[str, Any] = {}
    while (counters := json.loads(await door.ask())) != last:
        last = counters
        await asyncio.sleep(CALM_SECONDS)
    return last


def knock_rows(samples: Sequence[dict[str, Any]]) -> list[Row]:
    """Rates by CPU against the bars and beside fwknopd's; rates by the wall clock as notes."""
    mine = [each for each in samples if "sources" in each]
    theirs = [each for each in samples if each.get("side") == FWKNOPD.name]
    if not mine:
        return []
    leases = max(each["leases"] for each in mine)
    skipped = next((each["skipped"] for each in theirs if "skipped" in each), "")
    valid, few, many = (_peer(theirs, *each) for each in (("valid", 1), ("garbage", 1), ("garbage", MANY_KEYS)))
    strangers = f"fwknopd with {MANY_KEYS} keys; with one key {few:,.0f}" if few and many else ""
    return [
        _row(
            f"valid knocks, {leases:,} leases, {MANY_SOURCES:,} sources",
            (_burst_of(mine, "valid", MANY_SOURCES), "admitted", KNOCK_BARS, valid),
            skipped or ("fwknopd with one key" if valid else ""),
        ),
        _row(
            f"valid knocks, {leases:,} leases, one source", (_burst_of(mine, "valid", 1), "admitted", KNOCK_BARS, valid)
        ),
        _row(
            "garbage knocks",
            (_burst_of(mine, "garbage", MANY_SOURCES), "dropped.locator", GARBAGE_BARS, many),
            strangers,
        ),
    ]


def _peer(samples: Sequence[dict[str, Any]], kind: str, keys: int) -> float | None:
    """Knocks of fwknopd by its CPU seconds."""
    return middle(
        [
            each["judged"] / each["cpu_seconds"]
            for each in samples
            if each.get("kind") == kind and each.get("keys") == keys and each["cpu_seconds"]
        ]
    )


def _burst_of(samples: Sequence[dict[str, Any]], kind: str, sources: int) -> list[dict[str, Any]]:
    return [each for each in samples if each["kind"] == kind and each["sources"] == sources]


def _row(name: str, figure: tuple[list[dict[str, Any]], str, tuple[Bar, Bar], float | None], said: str = "") -> Row:
    """A line of (bursts, the counter that counts, bar and aim, the peer's figure)."""
    bursts, counter, bars, peer = figure
    by_cpu = middle([_judged(each, counter) / each["cpu_seconds"] for each in bursts])
    by_wall = middle([_judged(each, counter) / each["wall_seconds"] for each in bursts])
    offered = middle([each["sent"] / each["wall_seconds"] for each in bursts])
    notes = [said] if said else []
    if by_wall is not None and offered is not None:
        notes.insert(0, f"by CPU; on the wall clock {by_wall:,.0f} /s of {offered:,.0f} sent")
    return Row(name, UNIT, by_cpu, peer, FWKNOPD.name if peer else "", *bars, note="; ".join(notes))


def _judged(sample: dict[str, Any], counter: str) -> int:
    """What the counter says, less the knocks that were admitted and found no room in the cloak."""
    counted: dict[str, int] = sample["counted"]
    return counted.get(counter, 0) - (counted.get("cloak_full", 0) if counter == "admitted" else 0)
