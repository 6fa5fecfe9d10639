"""The sessions that are live in this process, each with its device's knock secrets and the client that listens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from certs.secret import Secret
from controller.directory.directory import Directory
from controller.sessions.rows import Closed
from controller.sessions.rules import LiveSession
from controller.sessions.telling import helps
from wire.messages import Revoked, ToClient


class CurrentDirectory(Protocol):
    """What sessions need of the directory service."""

    @property
    def current(self) -> Directory: ...  # noqa: D102


class Listener(Protocol):
    """A client's connection that keeps a session alive. Neither method waits."""

    def tell(self, message: ToClient) -> None:
        """Sends soon."""

    def replaced(self) -> None:
        """A newer connection listens now; this one is over."""


@dataclass(slots=True)
class Entry:
    """A live session and what belongs to it while this process runs."""

    session: LiveSession
    knock_secrets: tuple[Secret, ...]  # the newest first; two while the device changes over
    listener: Listener | None = None
    changes_at: datetime | None = None  # when an answer is known to change by itself

    def tell(self, message: ToClient) -> None:
        """Tells the client, if one listens."""
        if self.listener is not None:
            self.listener.tell(message)


class Live:
    """Entries by session. Nothing here waits."""

    def __init__(self) -> None:
        self._entries: dict[UUID, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Those that are live now; ending one meanwhile does no harm."""
        return iter(list(self._entries.values()))

    def __contains__(self, session: UUID) -> bool:
        return session in self._entries

    def add(self, entry: Entry) -> None:
        """From now on it is live."""
        self._entries[entry.session.id] = entry

    def get(self, session: UUID) -> Entry | None:
        """The entry of a live session."""
        return self._entries.get(session)

    def forget(self, matches: Callable[[LiveSession], bool], code: str, sentence: str) -> list[Closed]:
        """From now on these are not live; their clients are told why."""
        gone = [entry for entry in self if matches(entry.session)]
        for entry in gone:
            del self._entries[entry.session.id]
            entry.tell(Revoked(code=code, sentence=sentence, fix=helps(code)))
        return [Closed(each.session.id, each.session.user, each.session.device_id) for each in gone]
