"""How long a tunnel may live: with nothing to carry, and at all.

1. Nobody notes the time of a byte: a tunnel is looked at now and then, and idle is one whose count of bytes stands
   still. So it ends between its idle limit and a quarter more after its last byte.
2. A limit of 0 is no limit.
3. A tunnel that carried nothing between two looks is quiet: what its buffers grew to can go.
"""

from dataclasses import dataclass
from typing import Final

LOOKS: Final = 4
"""Looks at a tunnel within its idle limit."""
LOOK_EVERY: Final = 30.0
"""Seconds between looks without one: ten thousand tunnels are three hundred looks a second, under a millisecond."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The limits of every tunnel, in seconds; 0 is none."""

    idle: float = 0.0
    lifetime: float = 0.0


class Age:
    """How old one tunnel is, and since when it has carried nothing; times are monotonic seconds."""

    __slots__ = ("_bytes", "_since", "opened", "quiet")

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self._bytes = 0
        self._since = opened
        self.quiet = False

    def look(self, count: int, limits: Lifetimes, now: float) -> str:
        """The reason to end a tunnel that has carried `count` bytes by `now`: `lifetime`, `idle`, or "" if none."""
        if limits.lifetime and now >= self.opened + limits.lifetime:
            return "lifetime"
        self.quiet = count == self._bytes
        if not self.quiet:
            self._bytes, self._since = count, now
        elif limits.idle and now >= self._since + limits.idle:
            return "idle"
        return ""

    def next_look(self, limits: Lifetimes, now: float) -> float:
        """When to look again."""
        looks = [now + LOOK_EVERY]
        looks += [now + limits.idle / LOOKS] if limits.idle else []
        looks += [self.opened + limits.lifetime] if limits.lifetime else []
        return min(looks)
