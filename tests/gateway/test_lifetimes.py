"""The laws of gateway/lifetimes.py, as stories of looks."""

import pytest

from gateway.lifetimes import Age, Lifetimes

NONE = Lifetimes()
IDLE = Lifetimes(idle=8.0)
LIFE = Lifetimes(lifetime=20.0)
BOTH = Lifetimes(idle=8.0, lifetime=20.0)


@pytest.mark.parametrize(
    ("limits", "looks"),
    [
        (NONE, [(0, 1_000.0, "")]),
        (IDLE, [(0, 7.9, ""), (0, 8.0, "idle")]),
        (IDLE, [(5, 2.0, ""), (5, 9.9, ""), (5, 10.0, "idle")]),
        (IDLE, [(5, 6.0, ""), (6, 12.0, ""), (7, 18.0, ""), (7, 26.0, "idle")]),
        (LIFE, [(5, 19.9, ""), (6, 20.0, "lifetime")]),
        (BOTH, [(5, 7.0, ""), (6, 14.0, ""), (7, 20.0, "lifetime")]),
        (BOTH, [(5, 4.0, ""), (5, 12.0, "idle")]),
    ],
)
def test_a_tunnel_ends_for_its_reason_and_at_its_time(limits: Lifetimes, looks: list[tuple[int, float, str]]) -> None:
    age = Age(0.0)
    assert [age.look(count, limits, now) for count, now, _reason in looks] == [reason for *_, reason in looks]


@pytest.mark.parametrize(
    ("limits", "now", "look"),
    [(NONE, 3.0, 33.0), (IDLE, 3.0, 5.0), (LIFE, 3.0, 20.0), (BOTH, 3.0, 5.0), (BOTH, 19.0, 20.0)],
)
def test_the_next_look_is_in_time_for_both(limits: Lifetimes, now: float, look: float) -> None:
    assert Age(0.0).next_look(limits, now) == look


def test_a_tunnel_is_quiet_between_two_looks_that_saw_the_same() -> None:
    age = Age(0.0)
    quiet = []
    for now, count in enumerate((0, 5, 5, 6, 6)):
        age.look(count, NONE, float(now))
        quiet.append(age.quiet)
    assert quiet == [True, False, True, False, True]
