"""`python -m bench [--quick] [--only PART…] [--cloak NAME] [--out FILE] [--strict]`.

Exit code 0: everything was measured. 1: something could not be (the report says what). With `--strict` also 1 where a
bar was missed; without it a noisy machine fails nobody's build.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.budget import FULL, QUICK, Budget
from bench.connections import connection_rows, measure_connections
from bench.figures import Row
from bench.knocks import knock_rows, measure_knocks
from bench.machine import describe
from bench.opening import measure_openings, opening_rows
from bench.relay import measure_relays, relay_rows
from bench.report import keep, print_report
from bench.revocation import measure_revocations, revocation_rows
from bench.stage import Stage, standing

LATEST = Path(__file__).parent / "results" / "latest.json"
PARTS: dict[str, Callable[[Any], list[Row]]] = {
    "relay": relay_rows,
    "connections": connection_rows,
    "opening": opening_rows,
    "revocation": revocation_rows,
    "knocks": knock_rows,
}
Samples = AsyncGenerator[dict[str, Any], None]
ON_STAGE = frozenset(PARTS) - {"knocks"}


class Run:
    """What was measured so far, and what could not be."""

    def __init__(self, console: Console, budget: Budget, parts: frozenset[str], cloak: str) -> None:
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.seconds: dict[str, float] = {}
        self.problems: list[str] = []
        self.stage_cloak: str | None = None
        self._console = console
        self._budget = budget
        self._parts = parts
        self._cloak = cloak

    async def everything(self) -> None:
        """Every part that was asked for; a failure of one leaves the others."""
        budget = self._budget
        if self._parts & ON_STAGE:
            async with self._part("the perimeter", None), self._stage() as stage:
                await self._on(stage)
        await self._measure(
            "knocks",
            budget.knock_seconds,
            lambda: measure_knocks(
                leases=budget.leases,
                rounds=budget.knock_rounds,
                knocks=budget.knocks,
                garbage_for=budget.garbage_for,
                cloak=self._cloak,
            ),
        )

    async def _on(self, stage: Stage) -> None:
        budget = self._budget
        self.stage_cloak = stage.cloak
        await self._measure("opening", budget.opening_seconds, lambda: measure_openings(stage, budget.openings))
        await self._measure(
            "relay", budget.relay_seconds, lambda: measure_relays(stage, budget.relay_rounds, budget.relay_bytes)
        )
        await self._measure(
            "connections",
            budget.connection_seconds,
            lambda: measure_connections(stage, budget.connection_rounds, budget.connections),
        )
        # Last: it ends the sessions of everybody but the first visitor.
        await self._measure(
            "revocation",
            budget.revocation_seconds,
            lambda: measure_revocations(stage, stage.visitors[1:], budget.tunnels),
        )

    async def _measure(self, part: str, seconds: float, measure: Callable[[], Samples]) -> None:
        """One part, if it was asked for. What came before a failure or the deadline is kept."""
        if part in self._parts:
            kept = self.samples.setdefault(part, [])
            async with self._part(part, seconds), contextlib.aclosing(measure()) as samples:
                async for sample in samples:
                    kept.append(sample)

    @contextlib.asynccontextmanager
    async def _stage(self) -> AsyncIterator[Stage]:
        people = 1 + (self._budget.revocations if "revocation" in self._parts else 0)
        async with contextlib.AsyncExitStack() as stack:
            began = time.monotonic()
            async with asyncio.timeout(self._budget.stage_seconds):
                stage = await stack.enter_async_context(standing(people, cloak=self._cloak))
            self.seconds["perimeter stands"] = time.monotonic() - began
            yield stage

    @contextlib.asynccontextmanager
    async def _part(self, name: str, seconds: float | None) -> AsyncIterator[None]:
        began = time.monotonic()
        self._console.print(f"{name} …", style="dim", highlight=False)
        try:
            async with asyncio.timeout(seconds):
                yield
        except Exception as error:  # noqa: BLE001 - whatever one part meets, the others are still worth measuring
            what = f"not done within {seconds:g} s" if isinstance(error, TimeoutError) and seconds else repr(error)
            self.problems.append(f"{name}: {what}")
        self.seconds[name] = time.monotonic() - began

    def rows(self) -> list[Row]:
        """One list for the table, in the order of `PARTS`."""
        return [row for part, rows in PARTS.items() if self.samples.get(part) for row in rows(self.samples[part])]


def _arguments() -> argparse.Namespace:
    about = "How fast gloam is, beside HAProxy and stunnel."
    parser = argparse.ArgumentParser(prog="python -m bench", description=about)
    parser.add_argument("--quick", action="store_true", help="three minutes at most, instead of eight")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), help="measure these parts alone")
    parser.add_argument("--cloak", default="auto", help="auto, socket-filter or on-demand")
    parser.add_argument("--out", type=Path, default=LATEST, help="where the samples go (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    return parser.parse_args()


def main() -> int:
    """Measure, print, keep."""
    arguments = _arguments()
    budget = QUICK if arguments.quick else FULL
    console, machine, began = Console(), describe(), datetime.now(UTC)
    run = Run(console, budget, frozenset(arguments.only or PARTS), arguments.cloak)
    asyncio.run(run.everything())
    rows = run.rows()
    print_report(console, rows, machine, run.problems)
    document = {
        "machine": machine,
        "began": began.isoformat(timespec="seconds"),
        "budget": {"name": "quick" if arguments.quick else "full", **asdict(budget)},
        "cloak": run.stage_cloak,
        "seconds": {name: round(value, 1) for name, value in run.seconds.items()},
        "problems": run.problems,
        "samples": run.samples,
    }
    keep(arguments.out, document, rows)
    console.print(f"samples: {arguments.out}", style="dim", highlight=False)
    missed = arguments.strict and any(row.met is False for row in rows)
    return 1 if run.problems or missed else 0


if __name__ == "__main__":
    sys.exit(main())
