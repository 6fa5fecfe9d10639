"""The laws of controller/audit/restraint.py."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from controller.audit import restraint
from controller.audit.events import ClientProtocolError, ControllerStarted, Event, EventsKeptBack
from controller.audit.restraint import MOST, PERIOD, Restraint

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def nonsense(device: int = 1, source: str = "192.0.2.1") -> Event:
    return ClientProtocolError(device=UUID(int=device) if device else None, source=source, detail="x")


def test_many_of_one_origin_are_counted_and_the_count_is_told() -> None:
    made = Restraint()
    told = [made.admits(nonsense(), NOW) for _ in range(MOST + 7)]
    assert told == [True] * MOST + [False] * 7
    assert made.admits(nonsense(device=2), NOW), "nobody else is kept back for it"
    assert made.settle(NOW + PERIOD - timedelta(seconds=1)) == []
    assert made.settle(NOW + PERIOD) == [EventsKeptBack(of="client.protocol_error", origin=str(UUID(int=1)), count=7)]
    assert not made
    assert made.admits(nonsense(), NOW + PERIOD)


def test_without_a_device_the_address_is_the_origin() -> None:
    made = Restraint()
    for _ in range(MOST):
        assert made.admits(nonsense(device=0), NOW)
    assert not made.admits(nonsense(device=0), NOW)
    assert made.admits(nonsense(device=0, source="192.0.2.2"), NOW)


def test_what_was_done_is_told_each_time() -> None:
    made = Restraint()
    assert all(made.admits(ControllerStarted(controller="main"), NOW) for _ in range(3 * MOST))
    assert not made


def test_more_origins_than_there_is_room_for_are_one() -> None:
    made = Restraint()
    for number in range(restraint.MOST_ORIGINS):
        made.admits(nonsense(device=number + 1), NOW)
    beyond = [made.admits(nonsense(device=restraint.MOST_ORIGINS + 1 + number), NOW) for number in range(MOST + 1)]
    assert beyond == [True] * MOST + [False]
    assert EventsKeptBack(of="client.protocol_error", origin="", count=1) in made.settle(NOW + PERIOD)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=400))
def test_nothing_is_lost(steps: list[tuple[int, int]]) -> None:
    """Told or counted: the sums are right whenever the events come."""
    made, now, told, counted = Restraint(), NOW, 0, 0
    for device, seconds in steps:
        now += timedelta(seconds=seconds)
        counted += sum(each.count for each in made.settle(now))
        told += made.admits(nonsense(device), now)
    counted += sum(each.count for each in made.settle(now + PERIOD))
    assert told + counted == len(steps)
    assert not made
