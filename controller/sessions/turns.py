"""Many wishes for one thing to be done again; one doing covers all that were made before it began.

An administrator's file of a hundred changes asks for a hundred evaluations of every session; two are enough.
"""

import asyncio
from collections.abc import Awaitable, Callable


class Turns:
    """`await turns()` returns after a complete run of `work` that began after the call."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._asked = 0
        self._done = 0
        self._turn = asyncio.Lock()

    async def __call__(self) -> None:
        """Asks for a run, and waits for one that began no earlier. What the run raises passes."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._done >= mine:
                return
            covered = self._asked
            await self._work()
            self._done = covered
