"""Verified connections that have asked for nothing yet, oldest first: few of one session, not many of all.

1. Whoever is taken in makes room for himself: the oldest of his session go, and the oldest of all.
2. They are the first to go when a connection that asks needs their place.
"""

from typing import Generic, Protocol, TypeVar
from uuid import UUID


class OfSession(Protocol):
    """Something of a session."""

    session: UUID


C = TypeVar("C", bound=OfSession)


class Parked(Generic[C]):
    """The parked connections of one gateway process."""

    def __init__(self, most: int, most_of_session: int) -> None:
        self._most = most
        self._most_of_session = most_of_session
        self._all: dict[C, None] = {}  # in the order they came
        self._of_session: dict[UUID, dict[C, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def add(self, connection: C) -> list[C]:
        """Takes one in; those that have to go for it (itself, where none may stay)."""
        self._all[connection] = None
        mine = self._of_session.setdefault(connection.session, {})
        mine[connection] = None
        leaving = [next(iter(mine))] if len(mine) > self._most_of_session else []
        if not leaving and len(self._all) > self._most:
            leaving = [next(iter(self._all))]
        for each in leaving:
            self.discard(each)
        return leaving

    def discard(self, connection: C) -> None:
        """It has asked, or is gone."""
        if connection not in self._all:
            return
        del self._all[connection]
        mine = self._of_session[connection.session]
        del mine[connection]
        if not mine:
            del self._of_session[connection.session]

    def oldest(self, session: UUID | None = None) -> C | None:
        """The one that came first, of `session` if one is named."""
        among = self._all if session is None else self._of_session.get(session, {})
        return next(iter(among), None)
