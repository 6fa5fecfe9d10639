"""Hours: "Mon-Fri 08:00-18:00 Europe/Paris".

Laws:

1. Hours are open whenever a clock on a wall in their zone shows a day and a time within them. So an hour that the
   clocks skip is never shown and never open, and one that they repeat is open both times.
2. The end is not included. An end before the start is on the next day, and the day named is the one it started on.
3. What is printed can be typed back, and is written in one way only.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MIDNIGHT: Final = 24 * 60  # minutes
LONGEST_TEXT: Final = 128
HORIZON_DAYS: Final = 15  # a weekly window that a clock change swallows opens a week later
_HOURS: Final = re.compile(r"\A(\S+) ([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2}) (\S+)\Z")


class BadHours(ValueError):  # noqa: N818 - reads as what it is
    """Text that is not hours; ``fix`` shows some."""

    fix = 'write DAYS HH:MM-HH:MM ZONE, as in "Mon-Fri 08:00-18:00 Europe/Paris" or "Sat,Sun 22:00-06:00 UTC"'


@dataclass(frozen=True, slots=True)
class Hours:
    """Days (0 is Monday), start and end in minutes after midnight, and the name of an IANA time zone."""

    days: frozenset[int]
    start: int
    end: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The hours ``text`` spells; :class:`BadHours` for anything else."""
        match = _HOURS.match(" ".join(text.split())) if len(text) <= LONGEST_TEXT else None
        if match is None:
            raise BadHours(f"{text[:LONGEST_TEXT]!a} is not hours")
        days, *digits, zone = match.groups()
        start_hour, start_minute, end_hour, end_minute = (int(each) for each in digits)
        start = _minutes(start_hour, start_minute)
        end = _minutes(end_hour, end_minute) or MIDNIGHT
        if start in {end, MIDNIGHT}:
            raise BadHours(f"{text!a} never opens")
        return cls(_parse_days(days), start, end, _parse_zone(zone))

    def __str__(self) -> str:
        times = "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (self.start, self.end))
        return f"{_format_days(self.days)} {times} {self.zone}"

    def is_open(self, now: datetime) -> bool:
        """Whether they are open at ``now`` (aware)."""
        shown = now.astimezone(ZoneInfo(self.zone))
        day, minute = shown.weekday(), shown.hour * 60 + shown.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)

    def next_opening(self, now: datetime) -> datetime | None:
        """The first moment after ``now`` at which they open, in UTC."""
        return next((at for at, opens in _changes(self, now) if opens), None)

    def next_change(self, now: datetime) -> datetime | None:
        """The first moment after ``now`` at which they open or close, in UTC."""
        return next((at for at, _ in _changes(self, now)), None)


@lru_cache(maxsize=1024)
def _changes(hours: Hours, now: datetime) -> tuple[tuple[datetime, bool], ...]:
    """Every opening (True) and closing (False) after ``now`` within the horizon, in order, in UTC.

    They can only be where the wall clock shows the start or the end, or where it jumps.
    """
    now = now.astimezone(UTC)
    zone = ZoneInfo(hours.zone)
    candidates = set(_jumps(zone, now))
    first = now.astimezone(zone).date() - timedelta(days=1)
    for count in range(HORIZON_DAYS + 2):
        for minutes in (hours.start, hours.end % MIDNIGHT):
            shown = datetime.combine(first + timedelta(days=count), time(minutes // 60, minutes % 60), zone)
            candidates.update(shown.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    found = []
    state = hours.is_open(now)
    for at in sorted(candidates):
        if at > now and hours.is_open(at) != state:
            state = not state
            found.append((at, state))
    return tuple(found)


def _jumps(zone: ZoneInfo, now: datetime) -> list[datetime]:
    """The moments within the horizon at which the zone's offset changes, to the second."""
    found = []
    for day in range(HORIZON_DAYS + 1):
        low = now.replace(microsecond=0) + timedelta(days=day)
        high = low + timedelta(days=1)
        before = low.astimezone(zone).utcoffset()
        if before == high.astimezone(zone).utcoffset():
            continue
        while high - low > timedelta(seconds=1):
            middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
            low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
        found.append(high)
    return found


def _minutes(hour: int, minute: int) -> int:
    if minute >= 60 or hour * 60 + minute > MIDNIGHT:  # noqa: PLR2004 - minutes in an hour
        raise BadHours(f"{hour:02}:{minute:02} is not a time of day")
    return hour * 60 + minute


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, hyphen, last = part.partition("-")
        low, high = _parse_day(first), _parse_day(last if hyphen else first)
        days.update((low + step) % 7 for step in range((high - low) % 7 + 1))
    return frozenset(days)


def _parse_day(text: str) -> int:
    if text.capitalize() not in DAYS:
        raise BadHours(f"{text!a} is not a day: {', '.join(DAYS)}")
    return DAYS.index(text.capitalize())


def _format_days(days: frozenset[int]) -> str:
    """Runs of days from Monday on: "Mon-Fri", "Mon,Wed-Sun"."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)


def _parse_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = get_close_matches(text, sorted(available_timezones()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadHours(f"{text!a} is not a time zone{hint}") from error
    return text
