from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from controller.identity.attempts import FORGET, FREE, LONGEST, Attempts

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
DEVICE, OTHER = UUID(int=1), UUID(int=2)


def after(refusals: int) -> Attempts:
    attempts = Attempts()
    for _ in range(refusals):
        attempts.refused(DEVICE, NOW)
    return attempts


@pytest.mark.parametrize(
    ("refusals", "seconds"), [(0, 0), (FREE - 1, 0), (FREE, 1), (FREE + 1, 2), (FREE + 2, 4), (FREE + 50, 60)]
)
def test_waits_double_up_to_a_bound(refusals: int, seconds: int) -> None:
    assert after(refusals).wait(DEVICE, NOW) == timedelta(seconds=seconds)


def test_the_wait_passes_and_is_the_devices_own() -> None:
    attempts = after(FREE + 2)
    assert attempts.wait(DEVICE, NOW + timedelta(seconds=3)) == timedelta(seconds=1)
    assert attempts.wait(DEVICE, NOW + timedelta(seconds=4)) == timedelta(0)
    assert attempts.wait(OTHER, NOW) == timedelta(0)


def test_success_and_time_forget() -> None:
    attempts = after(FREE + 5)
    attempts.succeeded(DEVICE)
    assert attempts.wait(DEVICE, NOW) == timedelta(0)
    attempts = after(FREE + 5)
    later = NOW + FORGET + timedelta(seconds=1)
    attempts.refused(DEVICE, later)
    assert attempts.wait(DEVICE, later) == timedelta(0)


def test_old_refusals_do_not_pile_up() -> None:
    attempts = Attempts()
    for number in range(100):
        attempts.refused(UUID(int=number), NOW + number * FORGET * 2)
    assert len(attempts._refusals) < 5


@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(days=400)])
def test_a_clock_set_back_neither_ends_nor_stretches_the_wait(back: timedelta) -> None:
    attempts = after(FREE + 50)
    assert attempts.wait(DEVICE, NOW - back) == LONGEST
