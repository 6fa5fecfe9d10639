"""When to make a warm connection, and for how long to keep it.

Laws:

1. There are at most `most`, and none is older than `WARM_AGE`: the gateway would wait longer, so ours end first.
2. One that was used is replaced at once. One that ended unused is replaced only while tunnels are being opened
   (`IN_USE`), and not before `PAUSE`: several commands that push each other's out at a gateway stay calm.
3. After one could not be made there is no other attempt before the next tunnel: it says what is wrong, not we.
"""

from typing import Final

WARM_AGE: Final = 45.0
"""Seconds; a gateway lets one wait for 60."""
IN_USE: Final = 120.0
"""Seconds after a tunnel was opened in which another may soon be: a person who reads a page. Every renewal is a knock,
so a forward that nobody uses keeps none."""
PAUSE: Final = 5.0
"""Seconds before one that ended unused is replaced: a gateway that closes them has its reasons."""


class Warmth:
    """What is wanted at the gateway in use; times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._used: float | None = None  # since a failure, there was no use
        self._not_before = 0.0

    def used(self, now: float) -> None:
        """A tunnel was opened, or is about to be."""
        self._used = now
        self._not_before = now

    def ended(self, now: float) -> None:
        """One ended unused."""
        self._not_before = max(self._not_before, now + PAUSE)

    def failed(self) -> None:
        """One could not be made."""
        self._used = None

    def wanted(self, ready: int, now: float) -> bool:
        """Whether to make one now."""
        return self._in_use(ready, now) and now >= self._not_before

    def wake_at(self, ready: int, oldest: float | None, now: float) -> float | None:
        """When to look again if nothing happens: the `oldest` gets too old, or another may be made."""
        looks = [] if oldest is None else [oldest + WARM_AGE]
        if self._in_use(ready, now):
            looks.append(self._not_before)
        return min(looks, default=None)

    def _in_use(self, ready: int, now: float) -> bool:
        return self._used is not None and ready < self.most and now < self._used + IN_USE


def too_old(made: float, now: float) -> bool:
    """Whether one that was `made` then is not to be used any more."""
    return now >= made + WARM_AGE
