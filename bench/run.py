"""A run: the parts that were asked for, one after the other, whatever becomes of each."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from rich.console import Console

from bench.budget import Budget
from bench.parts import PARTS, Part, Samples
from bench.stage import Stage, standing

STAGE = "the perimeter"


class Run:
    """What was measured so far, and what could not be."""

    def __init__(self, console: Console, budget: Budget, parts: frozenset[str], cloak: str) -> None:
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.seconds: dict[str, float] = {}
        self.problems: list[str] = []
        self.stage_cloak: str | None = None
        self._console = console
        self._budget = budget
        self._parts = [part for part in PARTS if part.name in parts]
        self._cloak = cloak
        self._end = time.monotonic() + budget.total_seconds

    async def everything(self) -> None:
        """Every part that was asked for; a failure of one leaves the others."""
        for part in self._parts:
            if part.alone is not None:
                await self._measure(part, part.alone(self._cloak, self._budget))
            if part.peer is not None:
                await self._measure(part, part.peer[1](self._budget), name=part.peer[0])
        if any(part.on_stage for part in self._parts):
            async with self._part(STAGE, None), self._stage() as stage:
                self.stage_cloak = stage.cloak
                for part in self._parts:
                    if part.on_stage is not None:
                        await self._measure(part, part.on_stage(stage, self._budget))

    async def _measure(self, part: Part, measure: Samples, name: str | None = None) -> None:
        """What came before a failure or the deadline is kept."""
        kept, name = self.samples.setdefault(part.name, []), name or part.name
        seconds = min(self._budget.deadlines[name], max(self._end - time.monotonic(), 0))
        async with self._part(name, seconds), contextlib.aclosing(measure) as samples:
            async for sample in samples:
                kept.append(sample)

    @contextlib.asynccontextmanager
    async def _stage(self) -> AsyncIterator[Stage]:
        revoked = any(part.name == "revocation" for part in self._parts)
        people = 1 + (self._budget.revocations if revoked else 0)
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
            late = "not done in time" if seconds is None else f"not done within {seconds:.0f} s"
            what = late if isinstance(error, TimeoutError) else repr(error)
            self.problems.append(f"{name}: {what}")
        self.seconds[name] = time.monotonic() - began
