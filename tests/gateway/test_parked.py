"""The laws of gateway/parked.py."""

from uuid import UUID

import pytest

from gateway.parked import Parked


class Connection:
    def __init__(self, number: int, session: int) -> None:
        self.number = number
        self.session = UUID(int=session)


@pytest.mark.parametrize(
    ("sessions", "stay"),
    [
        ([1, 1], [0, 1]),
        ([1, 1, 1], [1, 2]),  # the oldest of the session goes
        ([1, 1, 2, 1], [1, 2, 3]),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4]),  # the oldest of all goes
        ([1, 2, 2, 3, 2], [0, 2, 3, 4]),  # a session over its share pays itself, also when all is full
    ],
)
def test_who_comes_makes_room(sessions: list[int], stay: list[int]) -> None:
    parked: Parked[Connection] = Parked(most=4, most_of_session=2)
    connections = [Connection(number, session) for number, session in enumerate(sessions)]
    gone = [each for connection in connections for each in parked.add(connection)]
    assert [each.number for each in connections if each in parked] == stay
    assert sorted(each.number for each in gone) == [each for each in range(len(sessions)) if each not in stay]
    assert len(parked) == len(stay)


def test_where_none_may_stay_the_newcomer_goes() -> None:
    parked: Parked[Connection] = Parked(most=0, most_of_session=2)
    newcomer = Connection(0, 1)
    assert parked.add(newcomer) == [newcomer]
    assert not len(parked)


def test_the_oldest_of_all_and_of_a_session() -> None:
    parked: Parked[Connection] = Parked(most=4, most_of_session=2)
    first, second, third = (Connection(number, session) for number, session in enumerate((1, 2, 2)))
    assert parked.oldest() is None
    for each in (first, second, third):
        assert parked.add(each) == []
    assert (parked.oldest(), parked.oldest(UUID(int=2)), parked.oldest(UUID(int=3))) == (first, second, None)
    parked.discard(second)
    parked.discard(second)
    assert parked.oldest(UUID(int=2)) is third
