"""Hours as a clock on a wall shows them, also on the days the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decision.hours import DAYS, BadHours, Hours

SPELLINGS = {
    "Mon-Fri 08:00-18:00 Europe/Paris": "Mon-Fri 08:00-18:00 Europe/Paris",
    "  mon-fri   08:00-18:00  Europe/Paris ": "Mon-Fri 08:00-18:00 Europe/Paris",
    "Mon,Tue,Wed 08:00-18:00 UTC": "Mon-Wed 08:00-18:00 UTC",
    "Fri-Mon 00:00-24:00 UTC": "Mon,Fri-Sun 00:00-24:00 UTC",
    "Sun 22:00-00:00 UTC": "Sun 22:00-24:00 UTC",
    "SAT,sun 22:00-06:00 America/New_York": "Sat-Sun 22:00-06:00 America/New_York",
    "Wed-Wed 01:00-02:00 UTC": "Wed 01:00-02:00 UTC",
}


@pytest.mark.parametrize(("typed", "kept"), SPELLINGS.items())
def test_what_is_typed_is_kept_in_one_spelling(typed: str, kept: str) -> None:
    assert str(Hours.parse(typed)) == kept
    assert Hours.parse(kept) == Hours.parse(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "08:00-18:00 UTC",
        "Mon-Fri 8:00-18:00 UTC",
        "Mon-Fri 08:00-18:00",
        "Mon-Fri 08:00-18:00 Europe/Pariss",
        "Mon-Fri 08:00-18:00 ../../etc/passwd",
        "Mon-Fri 08:00-18:00 Europe",
        "Mon-Fry 08:00-18:00 UTC",
        "Mon- 08:00-18:00 UTC",
        "Mon, 08:00-18:00 UTC",
        "Mon 08:00-08:00 UTC",
        "Mon 24:00-08:00 UTC",
        "Mon 08:60-09:00 UTC",
        "Mon 08:00-24:01 UTC",
        "Mon 00:00-00:00 UTC UTC",
        "Mon 0\u0668:00-18:00 UTC",
        "Mon 08:00-18:00 UTC" + " " * 200,
    ],
)
def test_what_is_no_hours_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(BadHours) as refused:
        Hours.parse(typed)
    assert "Europe/Paris" in refused.value.fix


def test_a_mistyped_zone_is_met_with_the_nearest() -> None:
    with pytest.raises(BadHours, match="Europe/Paris"):
        Hours.parse("Mon 08:00-18:00 Europe/Pariss")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OPEN = [
    # Plain days: the start is in, the end is not.
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 06:59:59", False),
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 07:00:00", True),
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 16:59:59", True),
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 17:00:00", False),
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-07-06 06:00:00", True),  # the same, in summer
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-03 10:00:00", False),  # Saturday
    # Over midnight: the day named is the day it starts.
    ("Fri 22:00-06:00 UTC", "2026-01-02 21:59:59", False),
    ("Fri 22:00-06:00 UTC", "2026-01-02 22:00:00", True),
    ("Fri 22:00-06:00 UTC", "2026-01-03 05:59:59", True),
    ("Fri 22:00-06:00 UTC", "2026-01-03 06:00:00", False),
    ("Fri 22:00-06:00 UTC", "2026-01-02 05:00:00", False),
    ("Sun 22:00-06:00 UTC", "2026-01-05 05:59:00", True),  # Monday morning
    # 2026-03-29 in Paris: 02:00 to 03:00 is never shown.
    ("Sun 02:30-03:30 Europe/Paris", "2026-03-29 00:59:59", False),
    ("Sun 02:30-03:30 Europe/Paris", "2026-03-29 01:00:00", True),  # the clock jumps to 03:00
    ("Sun 02:30-03:30 Europe/Paris", "2026-03-29 01:30:00", False),
    ("Sun 02:00-03:00 Europe/Paris", "2026-03-29 01:00:00", False),
    # 2026-10-25 in Paris: 02:00 to 03:00 is shown twice.
    ("Sun 02:15-02:45 Europe/Paris", "2026-10-25 00:20:00", True),
    ("Sun 02:15-02:45 Europe/Paris", "2026-10-25 00:50:00", False),
    ("Sun 02:15-02:45 Europe/Paris", "2026-10-25 01:20:00", True),
    ("Sun 02:15-02:45 Europe/Paris", "2026-10-25 01:50:00", False),
]


@pytest.mark.parametrize(("hours", "at", "expected"), OPEN)
def test_open_is_what_the_wall_clock_says(hours: str, at: str, *, expected: bool) -> None:
    assert Hours.parse(hours).is_open(utc(at)) is expected


OPENINGS = [
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 06:00:00", "2026-01-05 07:00:00"),
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-05 07:00:00", "2026-01-06 07:00:00"),  # open: the next one
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-01-09 20:00:00", "2026-01-12 07:00:00"),  # over the weekend
    ("Mon-Fri 08:00-18:00 Europe/Paris", "2026-03-27 20:00:00", "2026-03-30 06:00:00"),  # and over the change
    ("Fri 22:00-06:00 UTC", "2026-01-03 05:00:00", "2026-01-09 22:00:00"),
    ("Sun 02:30-03:30 Europe/Paris", "2026-03-28 12:00:00", "2026-03-29 01:00:00"),  # opens where the clock jumps
    ("Sun 02:15-02:45 Europe/Paris", "2026-03-28 12:00:00", "2026-04-05 00:15:00"),  # swallowed: a week later
    ("Sun 02:15-02:45 Europe/Paris", "2026-10-25 00:30:00", "2026-10-25 01:15:00"),  # again, an hour later
    ("Sun 01:30-02:30 Europe/Paris", "2026-10-25 00:30:00", "2026-10-25 01:00:00"),  # the clock jumps back into it
]


@pytest.mark.parametrize(("hours", "now", "opening"), OPENINGS)
def test_the_next_opening(hours: str, now: str, opening: str) -> None:
    assert Hours.parse(hours).next_opening(utc(now)) == utc(opening)


def test_hours_that_are_always_open_never_open() -> None:
    always = Hours.parse("Mon-Sun 00:00-24:00 Europe/Paris")
    assert always.is_open(utc("2026-03-29 01:00:00"))
    assert always.next_opening(utc("2026-03-28 12:00:00")) is None
    assert always.next_change(utc("2026-03-28 12:00:00")) is None


ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
)
hours = st.builds(
    lambda days, start, length, zone: Hours(days, start, (start + length) % 1440 or 1440, zone),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.sampled_from(ZONES),
)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


@given(hours)
def test_what_is_printed_can_be_typed_back(some: Hours) -> None:
    assert Hours.parse(str(some)) == some


@given(hours, moments)
def test_open_agrees_with_counting_minutes(some: Hours, now: datetime) -> None:
    shown = now.astimezone(ZoneInfo(some.zone))
    week = {
        (day * 1440 + minute) % 10080
        for day in some.days
        for minute in range(some.start, some.end if some.end > some.start else some.end + 1440)
    }
    assert some.is_open(now) == (shown.weekday() * 1440 + shown.hour * 60 + shown.minute in week)


@given(hours, moments)
def test_nothing_changes_before_the_next_change(some: Hours, now: datetime) -> None:
    change = some.next_change(now)
    until = now + timedelta(days=10) if change is None else change
    state = some.is_open(now)
    step = max((until - now) / 200, timedelta(microseconds=1))
    assert all(some.is_open(now + step * count) == state for count in range(200) if now + step * count < until)
    if change is not None:
        assert some.is_open(change) != state
        assert some.is_open(change - timedelta(microseconds=1)) == state


def test_days_are_as_printed() -> None:
    assert DAYS[utc("2026-01-05 00:00:00").weekday()] == "Mon"
