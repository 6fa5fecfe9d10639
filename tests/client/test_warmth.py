"""The laws of client/warmth.py, as stories."""

import pytest

from client.warmth import IN_USE, PAUSE, WARM_AGE, Warmth, too_old


@pytest.mark.parametrize(
    ("events", "ready", "now", "answer"),
    [
        ([], 0, 100.0, "wait"),  # nobody said that tunnels are coming
        ([("used", 100.0)], 0, 100.0, "make"),
        ([("used", 100.0)], 1, 100.0, "make"),
        ([("used", 100.0)], 2, 100.0, "wait"),
        ([("used", 100.0)], 0, 100.0 + IN_USE - 1, "make"),
        ([("used", 100.0)], 0, 100.0 + IN_USE, "wait"),
        ([("used", 100.0), ("ended", 101.0)], 1, 101.0 + PAUSE - 0.1, "wait"),
        ([("used", 100.0), ("ended", 101.0)], 1, 101.0 + PAUSE, "make"),
        ([("used", 100.0), ("ended", 101.0), ("used", 102.0)], 1, 102.0, "make"),
        ([("used", 100.0), ("failed", 101.0)], 0, 110.0, "wait"),
        ([("used", 100.0), ("failed", 101.0), ("used", 110.0)], 0, 110.0, "make"),
    ],
)
def test_what_is_wanted(events: list[tuple[str, float]], ready: int, now: float, answer: str) -> None:
    warmth = Warmth(2)
    for what, when in events:
        match what:
            case "used":
                warmth.used(when)
            case "ended":
                warmth.ended(when)
            case _:
                warmth.failed()
    assert warmth.wanted(ready, now) is (answer == "make")
    assert not Warmth(0).wanted(0, now)


def test_it_looks_again_when_something_is_due_and_not_before() -> None:
    warmth = Warmth(2)
    assert warmth.wake_at(0, None, 100.0) is None
    warmth.used(100.0)
    assert warmth.wake_at(2, 100.0, 101.0) == 100.0 + WARM_AGE
    warmth.ended(103.0)
    assert warmth.wake_at(1, 102.0, 103.0) == 103.0 + PAUSE
    assert warmth.wake_at(0, None, 100.0 + IN_USE) is None


def test_it_is_too_old_before_the_gateway_thinks_so() -> None:
    assert not too_old(100.0, 100.0 + WARM_AGE - 0.1)
    assert too_old(100.0, 100.0 + WARM_AGE)
