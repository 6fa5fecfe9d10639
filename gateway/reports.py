"""What the controller shall hear of us: kept while the link is down, in order, and bounded.

1. Reports leave the queue only once they were handed to a link (`sent`): a link that breaks before loses nothing.
2. The queue is bounded. When it is full the oldest report goes, and is counted: the newest say most about the present.
3. Refused knocks are counted by key, source and reason within a period; more different ones than the bound are counted
   together under no key. A flood of knocks is a few messages.
"""

from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from gateway.limits import KNOCK_REASONS_KEPT, REPORTS_KEPT
from wire.messages import REPORTS_AT_ONCE, KnockRefused, Report


class Reports:
    """The queue of reports."""

    def __init__(self, capacity: int = REPORTS_KEPT) -> None:
        self._waiting: deque[Report] = deque()
        self._capacity = capacity
        self.lost = 0  # reports that had to go because the queue was full, since the start

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, report: Report) -> None:
        """One more report."""
        self._waiting.append(report)
        if len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self.lost += 1

    def next(self) -> tuple[Report, ...]:
        """The oldest that were not sent, as many as one message holds."""
        return tuple(islice(self._waiting, REPORTS_AT_ONCE))

    def sent(self, reports: Sequence[Report]) -> None:
        """These, which `next` answered, have been handed to a link. Some may have been dropped meanwhile."""
        for report in reports:
            if self._waiting and self._waiting[0] is report:
                self._waiting.popleft()


class RefusedKnocks:
    """Counts refused knocks within a period."""

    def __init__(self, capacity: int = KNOCK_REASONS_KEPT) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._capacity = capacity

    def add(self, key_id: str, source: str, code: str) -> None:
        """One refused knock under a known key."""
        what = (key_id, source, code)
        if what not in self._counts and len(self._counts) >= self._capacity:
            what = ("", "", code)
        self._counts[what] += 1

    def take(self, at: datetime) -> tuple[KnockRefused, ...]:
        """The reports of the period that ends `at`; the next one begins."""
        counts, self._counts = self._counts, Counter()
        return tuple(
            KnockRefused(key_id=key_id, source=source, code=code, count=count, at=at)
            for (key_id, source, code), count in counts.items()
        )
