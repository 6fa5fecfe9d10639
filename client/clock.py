"""The controller's time, seen from here.

Laws:

1. A knock must be within 120 s of the server's clock, and its time must not fall back behind another knock of this
   device by more than a second (`spa.replay`), in whichever of its processes they are made. So small errors stay
   uncorrected: an offset that follows every measurement would make time step back, while all processes of a machine
   agree on its uncorrected clock.
2. An offset is corrected only where a new measurement is more than `TOLERANCE` away from the one in use.
3. A correction that sets the time back does not set the time of knocks back: servers that accepted knocks from a clock
   that ran ahead refuse older ones. That time goes on as it did while a process may still knock with the correction
   before (`SETTLED`), then at half speed until the corrected clock has caught up.
4. All of that is one value, a `ClockCorrection`: processes that are given the same one at different moments send the
   same times.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from client.profile import ClockCorrection

TOLERANCE: Final = timedelta(seconds=20)
"""A sixth of what a knock allows: far above the jitter of a measurement, far below what a server refuses."""

ACCEPTED_AHEAD: Final = timedelta(seconds=120)
"""The most a knock may be ahead: where the clock was further off no knock was accepted, and none has to be outrun."""

SETTLED: Final = timedelta(seconds=15)
"""Longer than one way to a gateway may take, from asking the agent for it to the last knock there."""

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock_us() -> int:
    """This machine's time in microseconds since 1970."""
    return time.time_ns() // 1000


def measure(theirs: datetime, asked_us: int, answered_us: int) -> int:
    """The offset in microseconds that a time in an answer shows: it was written halfway between the two moments."""
    return (theirs - _EPOCH) // _MICROSECOND - (asked_us + answered_us) // 2


def correct(offset_us: int, measured_us: int) -> int:
    """The offset to use from now on, given the one in use and a new measurement."""
    tolerance = TOLERANCE // _MICROSECOND
    if abs(measured_us - offset_us) <= tolerance:
        return offset_us
    return 0 if abs(measured_us) <= tolerance else measured_us


@dataclass(slots=True)
class Clock:
    """This machine's clock with the correction in use. `wall` answers microseconds since 1970."""

    correction: ClockCorrection = field(default_factory=ClockCorrection)
    wall: Callable[[], int] = field(default=wall_clock_us)

    def us(self) -> int:
        """The time in microseconds since 1970 that the next knock carries."""
        wall = self.wall()
        return wall + self.offset_us + _lead(self.correction, wall)

    def now(self) -> datetime:
        """The controller's time."""
        return _EPOCH + timedelta(microseconds=self.wall() + self.offset_us)

    @property
    def offset_us(self) -> int:
        """What this machine's clock lacks of the controller's."""
        return self.correction.offset_us

    def learn(self, theirs: datetime, asked_us: int, answered_us: int) -> bool:
        """Takes the time of an answer in; both moments are `wall` readings. True if the correction changed."""
        offset = correct(self.offset_us, measure(theirs, asked_us, answered_us))
        if offset == self.offset_us:
            return False
        wall = self.wall()
        ahead = self.offset_us + _lead(self.correction, wall) - offset
        lead = ahead if 0 < ahead <= ACCEPTED_AHEAD // _MICROSECOND else 0
        self.correction = ClockCorrection(offset_us=offset, lead_us=lead, since_us=wall)
        return True


def _lead(correction: ClockCorrection, wall: int) -> int:
    """How far knocks run ahead of the corrected clock, as law 3 has it."""
    slowed = wall - correction.since_us - SETTLED // _MICROSECOND
    return max(0, correction.lead_us - max(0, slowed) // 2)
