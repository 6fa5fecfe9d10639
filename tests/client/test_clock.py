from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.clock import SETTLED, TOLERANCE, Clock, correct, measure
from client.profile import ClockCorrection

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("in_use", "measured", "after"),
    [
        (0, 0, 0),
        (0, 3 * SECOND, 0),
        (0, -19 * SECOND, 0),
        (0, 21 * SECOND, 21 * SECOND),
        (0, -300 * SECOND, -300 * SECOND),
        (300 * SECOND, 310 * SECOND, 300 * SECOND),
        (300 * SECOND, 330 * SECOND, 330 * SECOND),
        (300 * SECOND, 1 * SECOND, 0),
    ],
)
def test_only_large_errors_are_corrected(in_use: int, measured: int, after: int) -> None:
    assert correct(in_use, measured) == after


def test_an_answer_was_written_halfway() -> None:
    theirs = EPOCH + timedelta(seconds=110)
    assert measure(theirs, 99 * SECOND, 101 * SECOND) == 10 * SECOND


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_what_is_used_is_never_further_off_than_tolerated(in_use: int, measured: int) -> None:
    assert abs(correct(in_use, measured) - measured) <= TOLERANCE / timedelta(microseconds=1)


def test_a_clock_shows_the_controllers_time() -> None:
    clock = Clock(wall=lambda: 1000 * SECOND)
    assert clock.us() == 1000 * SECOND
    assert clock.learn(EPOCH + timedelta(seconds=1300), 1000 * SECOND, 1000 * SECOND)
    assert clock.us() == 1300 * SECOND
    assert clock.now() == EPOCH + timedelta(seconds=1300)
    assert not clock.learn(EPOCH + timedelta(seconds=1301), 1000 * SECOND, 1000 * SECOND)


@pytest.mark.parametrize("ahead", [21, 100, 120])
def test_a_clock_set_back_never_sends_knocks_an_older_time(ahead: int) -> None:
    moment = 1000 * SECOND
    clock, before = Clock(wall=lambda: moment), Clock(wall=lambda: moment)
    sent = [clock.us()]
    assert clock.learn(EPOCH + timedelta(seconds=1000 - ahead), moment, moment)
    assert clock.now() == EPOCH + timedelta(seconds=1000 - ahead)
    for second in range(3 * ahead):
        moment += SECOND // 2
        if second < SETTLED.total_seconds():  # a process that was told nothing of it
            sent.append(before.us())
        moment += SECOND // 2
        sent.append(clock.us())
    assert sent == sorted(set(sent))
    assert sent[-1] == moment - ahead * SECOND  # caught up


def test_processes_that_were_told_of_a_correction_at_different_moments_send_the_same_times() -> None:
    moment = 1000 * SECOND
    agent = Clock(wall=lambda: moment)
    assert agent.learn(EPOCH + timedelta(seconds=900), moment, moment)
    early = Clock(agent.correction, wall=lambda: moment)
    late = Clock(wall=lambda: moment)
    for _ in range(300):
        moment += SECOND
        late.correction = ClockCorrection.model_validate_json(agent.correction.model_dump_json())
        assert early.us() == late.us() == agent.us()


def test_a_clock_nobody_believed_is_set_back_at_once() -> None:
    clock = Clock(wall=lambda: 1000 * SECOND)
    assert clock.learn(EPOCH + timedelta(seconds=700), 1000 * SECOND, 1000 * SECOND)
    assert clock.us() == 700 * SECOND
