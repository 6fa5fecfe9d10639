from hypothesis import given
from hypothesis import strategies as st

from spa.limits import REMEMBERED, REORDER_US
from spa.replay import Believed, believe

NEAR = st.integers(-3 * REORDER_US, 3 * REORDER_US)
DENSE = st.integers(-2 * REMEMBERED, 2 * REMEMBERED)


def told(times: list[int]) -> tuple[list[bool], Believed]:
    """Which of these times are believed one after the other, and what is remembered of them."""
    believed: Believed = ()
    answers = []
    for each in times:
        after = believe(believed, each)
        answers.append(after is not None)
        believed = believed if after is None else after
    return answers, believed


@given(st.lists(NEAR | DENSE, max_size=100))
def test_no_time_is_believed_twice_and_none_that_others_left_behind(times: list[int]) -> None:
    answers, believed = told(times)
    used: list[int] = []
    for each, answer in zip(times, answers, strict=True):
        near = sorted((one for one in used if one >= max(used) - REORDER_US), reverse=True)[:REMEMBERED]
        forgotten = bool(used) and (each < max(used) - REORDER_US or (len(near) == REMEMBERED and each < near[-1]))
        assert answer is (each not in used and not forgotten)
        used += [each] * answer
    assert len(believed) <= REMEMBERED
    assert list(believed) == sorted(set(believed), reverse=True)


def test_of_two_processes_that_knock_at_once_the_overtaken_one_is_believed_too() -> None:
    first, second = 1_800_000_000_000_000, 1_800_000_000_000_011  # taken in this order, sent in the other
    assert told([second, first, second, first]) == ([True, True, False, False], (second, first))
