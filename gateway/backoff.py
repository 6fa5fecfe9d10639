"""How long to wait before the next attempt at a controller.

1. The bound doubles from `first` to `most` with each attempt in a row, and a link that lasted starts it anew.
2. The wait is drawn evenly from nothing to the bound ("full jitter"): gateways that lost one controller at one moment
   must not return at one moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from gateway.limits import BACKOFF_FIRST, BACKOFF_MOST


@dataclass(frozen=True, slots=True)
class Backoff:
    """`bound` is the most the next wait can be, in seconds."""

    first: float = BACKOFF_FIRST
    most: float = BACKOFF_MOST
    bound: float = BACKOFF_FIRST

    def wait(self, random: Callable[[], float]) -> float:
        """Seconds to wait now; `random` answers numbers from 0 to 1."""
        return self.bound * random()

    def failed(self) -> Self:
        """After one more attempt that came to nothing."""
        return replace(self, bound=min(self.bound * 2, self.most))

    def worked(self) -> Self:
        """After a link that lasted."""
        return replace(self, bound=self.first)
