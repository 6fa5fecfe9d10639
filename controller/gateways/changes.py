"""The numbered changes one gateway has been or will be told, so that a link that broke can go on where it was.

1. Changes have consecutive numbers within a stream. A stream lives as long as this process; another numbers anew.
2. Only the newest `capacity` changes are kept. Whoever is further behind gets a snapshot.
3. A change is in flight from `append` until `settle`: whoever asked for it may not have written down its outcome yet,
   so a snapshot taken meanwhile counts only what came before it, and the change follows. In order, changes are
   idempotent.
"""

from collections import deque
from collections.abc import Callable
from typing import Final
from uuid import UUID

from wire.messages import LeaseDrop, LeasePut, Resources, TrustPut

Change = LeasePut | LeaseDrop | Resources | TrustPut

CAPACITY: Final = 4096
"""Changes kept for a gateway: at 1,000 sessions renewed every five minutes, some twenty minutes without a link."""


class Changes:
    """The stream of changes to one gateway."""

    def __init__(self, stream: UUID, capacity: int = CAPACITY) -> None:
        self.stream = stream
        self.last = 0  # the number of the newest change
        self._kept: deque[Change] = deque(maxlen=capacity)
        self._in_flight: set[int] = set()

    def append(self, make: Callable[[int], Change]) -> Change:
        """The next change, made with its number; it is in flight until `settle`."""
        change = make(self.last + 1)
        self.last = change.seq
        self._kept.append(change)
        self._in_flight.add(change.seq)
        return change

    def settle(self, seq: int) -> None:
        """Whoever asked for this change has its outcome."""
        self._in_flight.discard(seq)

    @property
    def snapshot_point(self) -> int:
        """The number a snapshot taken now stands for: what is in flight is not surely part of it."""
        return min(self._in_flight, default=self.last + 1) - 1

    def after(self, seq: int) -> tuple[Change, ...] | None:
        """The changes after number `seq`, or None if they are no longer, or were never, known here."""
        first = self.last - len(self._kept) + 1
        if not first - 1 <= seq <= self.last:
            return None
        skip = seq - first + 1
        return tuple(change for index, change in enumerate(self._kept) if index >= skip)

    def resumes(self, stream: UUID | None, seq: int) -> bool:
        """Can a gateway that applied `seq` of `stream` go on without a snapshot?"""
        return stream == self.stream and self.after(seq) is not None
