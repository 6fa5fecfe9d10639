"""Who fills the log: refusals are told one by one while they are few, and counted when they are many (pure).

Laws:

1. Only refusals are restrained (`Event.failure`): what was done, opened or decided is recorded each time.
2. Of one kind and one origin (a device, else a session, a knock key, an address) `MOST` are told within a `PERIOD`; the
   rest is counted, and the count is recorded when the period is over. Nobody writes the log full, and nobody drives
   the refusals of others out of it.
3. It is bounded: origins beyond `MOST_ORIGINS` within one period are one origin together.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controller.audit.events import Event, EventsKeptBack

MOST: Final = 100
"""Refusals told one by one; somebody who mistypes for a minute stays far below."""
PERIOD: Final = timedelta(minutes=1)
MOST_ORIGINS: Final = 10_000

_NAMES: Final = ("device", "session", "key_id", "source")


@dataclass(slots=True)
class _Told:
    since: datetime
    count: int = 0


class Restraint:
    """What each origin was told of lately."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}  # the oldest period first

    def __bool__(self) -> bool:
        """Whether there is something to `settle` later."""
        return bool(self._told)

    def admits(self, event: Event, now: datetime) -> bool:
        """Whether this event is told. Call `settle` first, so that periods are over in time."""
        if not event.failure:
            return True
        key = (event.kind, _origin(event))
        if key not in self._told and len(self._told) >= MOST_ORIGINS:
            key = (event.kind, "")
        told = self._told.setdefault(key, _Told(now))
        told.count += 1
        return told.count <= MOST

    def settle(self, now: datetime) -> list[EventsKeptBack]:
        """Ends the periods that are over; what was kept back in them."""
        kept = []
        while self._told:
            (kind, origin), told = next(iter(self._told.items()))
            if now - told.since < PERIOD:
                break
            del self._told[kind, origin]
            if told.count > MOST:
                kept.append(EventsKeptBack(of=kind, origin=origin, count=told.count - MOST))
        return kept


def _origin(event: Event) -> str:
    return next((str(value) for name in _NAMES if (value := getattr(event, name, None))), "")
