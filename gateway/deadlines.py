"""What is due when, for many things and one timer: ten thousand tunnels wake nobody until one of them is due.

1. A thing has one deadline at a time; setting it again moves it.
2. Nothing is searched: setting, dropping and the next deadline cost the logarithm of how many there are.
3. Deadlines that were moved or dropped leave the heap when they surface, or all together once they are most of it.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SPARE: Final = 64


class Deadlines(Generic[K]):
    """Deadlines in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []  # the number keeps things from being compared
        self._number = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, thing: K, at: float) -> None:
        """`thing` is due `at`, and at no other time."""
        self._number += 1
        self._at[thing] = (at, self._number)
        heappush(self._heap, (at, self._number, thing))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            self._heap = [(when, number, each) for each, (when, number) in self._at.items()]
            heapify(self._heap)

    def drop(self, thing: K) -> None:
        """`thing` is never due; nothing happens if it was not going to be."""
        self._at.pop(thing, None)

    def earliest(self) -> float | None:
        """When the next thing is due; None if nothing ever is."""
        while self._heap and not self._current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[K]:
        """What is due by `now`, in the order it became so; its deadlines are spent."""
        things: list[K] = []
        while (earliest := self.earliest()) is not None and earliest <= now:
            things.append(heappop(self._heap)[2])
            del self._at[things[-1]]
        return things

    def _current(self, entry: tuple[float, int, K]) -> bool:
        at, number, thing = entry
        return self._at.get(thing) == (at, number)
