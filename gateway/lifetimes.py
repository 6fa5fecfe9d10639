"""How long a tunnel may live: with nothing to carry, and at all.

1. Nobody notes the time of a byte: a tunnel is looked at now and then, and idle is one whose count of bytes stands
   still. So it ends between its idle limit and a quarter more after its last byte.
2. A limit of 0 is no limit.
"""

from dataclasses import dataclass
from typing import Final

LOOKS: Final = 4
"""Looks at a tunnel within its idle limit."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The limits of every tunnel, in seconds; 0 is none."""

    idle: float = 0.0
    lifetime: float = 0.0


class Age:
    """How old one tunnel is, and since when it has carried nothing; times are monotonic seconds."""

    __slots__ = ("_bytes", "_since", "opened")

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self._bytes = 0
        self._since = opened

    def look(self, count: int, limits: Lifetimes, now: float) -> str:
        """The reason to end a tunnel that has carried `count` bytes by `now`: `lifetime`, `idle`, or "" if none."""
        if limits.lifetime and now >= self.opened + limits.lifetime:
            return "lifetime"
        if count != self._bytes:
            self._bytes, self._since = count, now
        elif limits.idle and now >= self._since + limits.idle:
            return "idle"
        return ""

    def next_look(self, limits: Lifetimes, now: float) -> float | None:
        """When to look again; None if there is nothing to look for."""
        looks = [now + limits.idle / LOOKS] if limits.idle else []
        looks += [self.opened + limits.lifetime] if limits.lifetime else []
        return min(looks, default=None)
