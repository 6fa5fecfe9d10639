"""A clock that tests set."""

from datetime import UTC, datetime, timedelta

START = datetime.now(UTC).replace(microsecond=0)  # TLS checks certificates by the wall clock


class Clock:
    """The time the services are told; it moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> datetime:
        self.now += timedelta(**time)
        return self.now
