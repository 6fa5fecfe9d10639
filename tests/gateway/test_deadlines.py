"""The laws of gateway/deadlines.py, against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.deadlines import Deadlines

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 9), st.integers(0, 50)),
        st.tuples(st.just("drop"), st.integers(0, 9)),
        st.tuples(st.just("due"), st.integers(0, 50)),
    ),
    max_size=200,
)


@given(STEPS)
def test_each_thing_is_due_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    for what, *numbers in steps:
        match what:
            case "set":
                deadlines.set(numbers[0], numbers[1])
                plain[numbers[0]] = numbers[1]
            case "drop":
                deadlines.drop(numbers[0])
                plain.pop(numbers[0], None)
            case _:
                due = deadlines.due(numbers[0])
                assert [plain[each] for each in due] == sorted(at for at in plain.values() if at <= numbers[0])
                for each in due:
                    del plain[each]
        assert deadlines.earliest() == min(plain.values(), default=None)
        assert len(deadlines) == len(plain)


def test_what_is_moved_over_and_over_does_not_pile_up() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for at in range(10_000):
        deadlines.set(at % 10, at)
    assert len(deadlines._heap) < 200
    assert deadlines.due(10_000) == list(range(10))
