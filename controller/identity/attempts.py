"""How fast a device may guess: the brake on passwords and codes.

Laws:

1. The first `FREE` refusals in a row cost nothing: people mistype. From then on each doubles the wait, up to `LONGEST`.
2. An attempt during the wait is refused without looking at it, and does not lengthen the wait.
3. A login that succeeds forgets the device's refusals; so does `FORGET` without any.
4. The brake is the device's, and only its owner logs in on a device: nobody can lock somebody else out.

With these numbers a stolen device has some 1,500 guesses a day at a code of six digits, three of which are good: one
chance in two hundred a day, and it needs the password first.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

FREE: Final = 5
FIRST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(minutes=1)
FORGET: Final = timedelta(hours=1)
_DOUBLINGS: Final = 10


@dataclass(frozen=True, slots=True)
class _Refusals:
    count: int
    last: datetime


class Attempts:
    """Counts refusals a device. Knows no clock: `now` is an argument."""

    def __init__(self) -> None:
        self._refusals: dict[UUID, _Refusals] = {}

    def wait(self, device: UUID, now: datetime) -> timedelta:
        """How long `device` has to wait before its next attempt; zero if it need not."""
        refusals = self._refusals.get(device)
        if refusals is None or refusals.count < FREE:
            return timedelta(0)
        delay = min(FIRST * (1 << min(refusals.count - FREE, _DOUBLINGS)), LONGEST)
        # A clock set back must neither end the wait nor make it longer than it was.
        left: timedelta = refusals.last + delay - now
        return min(max(left, timedelta(0)), delay)

    def refused(self, device: UUID, now: datetime) -> None:
        """An attempt that failed."""
        before = self._refusals.pop(device, None)
        count = 1 if before is None or now - before.last > FORGET else before.count + 1
        self._refusals[device] = _Refusals(count, now)
        self._forget(now)

    def succeeded(self, device: UUID) -> None:
        """A login: the count begins anew."""
        self._refusals.pop(device, None)

    def _forget(self, now: datetime) -> None:
        """Devices are added in the order of their last refusal, so the oldest are in front."""
        for device, refusals in list(self._refusals.items())[:2]:
            if now - refusals.last > FORGET:
                del self._refusals[device]
