"""Who has which tunnels, in which worker: what limits and cuts are made from.

1. A connection is in the ledger from the moment a worker gets it until that worker says it has ended, or is lost.
2. Limits count verified connections over all workers, those that have not asked yet included. Parked ones count too,
   and make way for one that comes in: what leaves counts no more, and an answer to it is owed no more.
3. A cut names connections: every one of the session that has not asked for what is kept. One that has not asked at all
   will be judged by the new lease if there is one.
4. A worker speaks of its own connections alone and in their order: verified once, asks once, opens what was permitted.
   Anything else raises `Impossible`: a worker that says it is not to be trusted with anything any more.
   Whose tunnel it is and to what is the ledger's to say: reports to the controller are made here.
5. Once it is closed nobody who has not asked stays: a gateway that drains opens no tunnel any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway import limits
from gateway.leases import Cut, Reach, Refusal
from gateway.parked import Parked
from gateway.workers.messages import Asks, Closed, Declined, Opened, Unverified
from spa.source import Source
from wire.messages import Address, HandshakeRefused, TunnelClosed, TunnelOpened, TunnelRefused

_TOO_MANY: Final = Refusal(
    503, "connection_limit_reached", "too_many_tunnels", "this gateway has all the tunnels it takes", "try again later"
)
_TOO_MANY_OF_YOURS: Final = Refusal(
    429, "connection_limit_reached", "too_many_tunnels", "this session has all the tunnels it may have", "close some"
)


_NOBODY: Final = UUID(int=0)  # the session of a connection that is not verified yet


class Impossible(Exception):  # noqa: N818 - what it is, not an error of ours
    """A worker said what cannot be true."""


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection, as far as it has come. `taken` and `since` are monotonic seconds."""

    tunnel: UUID
    worker: int
    source: Source
    taken: float
    session: UUID = _NOBODY
    counted: bool = False  # against the limits
    refused: bool = False
    asked: str | None = None  # for this name
    reach: Reach | None = None
    opened: TunnelOpened | None = None
    since: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    dropped: int = 0  # datagrams

    @property
    def address(self) -> Address:
        """Where its client is, for reports."""
        return Address(host=str(self.source.address), port=self.source.port)


@dataclass(slots=True)
class _Share:
    """What one worker has; `unverified` in the order it was given them."""

    all: dict[UUID, Connection] = field(default_factory=dict)
    unverified: dict[UUID, Connection] = field(default_factory=dict)


class Ledger:
    """The connections of all workers."""

    def __init__(
        self,
        most: int,
        most_of_session: int,
        most_parked: int = limits.MAX_PARKED,
        most_parked_of_session: int = limits.MAX_PARKED_PER_SESSION,
    ) -> None:
        self._most = most
        self._most_of_session = most_of_session
        self._all: dict[UUID, Connection] = {}
        self._shares: dict[int, _Share] = {}
        self._sessions: dict[UUID, dict[UUID, Connection]] = {}
        self._parked: Parked[Connection] = Parked(most_parked, most_parked_of_session)
        self._verified = 0
        self._asked = 0
        self._open = 0
        self._closed = False

    @property
    def open(self) -> int:
        """Tunnels that carry bytes."""
        return self._open

    @property
    def asked(self) -> int:
        """Connections that asked for something and have not ended."""
        return self._asked

    @property
    def parked(self) -> int:
        """Verified connections that have asked for nothing for a while."""
        return len(self._parked)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def load(self, worker: int) -> int:
        """How many connections a worker has."""
        share = self._shares.get(worker)
        return 0 if share is None else len(share.all)

    def longest_unverified(self, worker: int) -> float | None:
        """When the worker was given the oldest connection it has said nothing of; None if there is none such."""
        share = self._shares.get(worker)
        return None if share is None else next((each.taken for each in share.unverified.values()), None)

    # From accepted to ended

    def take(self, tunnel: UUID, worker: int, source: Source, now: float) -> None:
        """A worker is given a connection."""
        self._all[tunnel] = connection = Connection(tunnel, worker, source, now)
        share = self._shares.setdefault(worker, _Share())
        share.all[tunnel] = share.unverified[tunnel] = connection

    def verify(self, worker: int, tunnel: UUID, session: UUID) -> tuple[Refusal | None, list[Connection]]:
        """The peer has the certificate of `session`: why it may not stay, if so, and who has to leave for it."""
        connection = self._find(worker, tunnel)
        if connection.session is not _NOBODY:
            raise Impossible("a connection was verified twice")
        del self._shares[worker].unverified[tunnel]
        if self._closed:
            connection.session = session
            connection.refused = True
            return None, [connection]
        leaving = self._make_room(session)
        mine = self._sessions.setdefault(session, {})
        over = _TOO_MANY if self._verified >= self._most else None
        if over is None and len(mine) >= self._most_of_session:
            over = _TOO_MANY_OF_YOURS
        connection.session = session
        connection.counted = True
        connection.refused = over is not None
        mine[tunnel] = connection
        self._verified += 1
        return over, leaving

    def park(self, worker: int, tunnel: UUID) -> list[Connection]:
        """A verified connection asks for nothing; who has to leave for it, or that it has to itself."""
        connection = self._find(worker, tunnel)
        if connection.session is _NOBODY or connection.asked is not None or connection in self._parked:
            raise Impossible("a connection was parked before it was verified, after it asked, or twice")
        if connection.refused:
            return []
        leaving = self._parked.add(connection)
        for each in leaving:
            self._let_go(each)
        return leaving

    def ask(self, worker: int, asks: Asks) -> Connection | None:
        """The connection that asks; None if it was refused meanwhile and needs no answer."""
        connection = self._find(worker, asks.tunnel)
        if connection.session is _NOBODY or connection.asked is not None:
            raise Impossible("a connection asked before it was verified, or twice")
        self._parked.discard(connection)
        connection.asked = asks.name
        self._asked += 1
        return None if connection.refused else connection

    def permit(self, connection: Connection, reach: Reach) -> None:
        """The answer was yes."""
        connection.reach = reach

    # What the controller hears of them

    def opened(self, worker: int, said: Opened, now: float, at: datetime) -> TunnelOpened:
        """Bytes may flow."""
        connection = self._find(worker, said.tunnel)
        reach = connection.reach
        if reach is None or connection.opened is not None:
            raise Impossible("a tunnel was opened without a permit, or twice")
        connection.opened = report = TunnelOpened(
            tunnel=said.tunnel,
            session=connection.session,
            resource=reach.resource,
            source=connection.address,
            target=Address(host=said.host, port=said.port),
            group=said.group,
            protocol=reach.protocol,
            at=at,
        )
        connection.since = now
        self._open += 1
        return report

    def closed(self, worker: int, said: Closed, at: datetime) -> TunnelClosed:
        """No more bytes flow."""
        connection = self._find(worker, said.tunnel)
        if connection.opened is None:
            raise Impossible("a tunnel was closed that was not open")
        counts = (said.bytes_up, said.bytes_down, said.dropped)
        report = _closed(connection.opened, counts, said.seconds, said.reason, at)
        connection.opened = None
        self._open -= 1
        return report

    def declined(self, worker: int, said: Declined, at: datetime) -> TunnelRefused:
        """Whoever asked, or should have, was answered with a refusal."""
        connection = self._find(worker, said.tunnel)
        if connection.session is _NOBODY or connection.opened is not None:
            raise Impossible("a connection was refused a tunnel before it was verified, or after it had one")
        return TunnelRefused(
            session=connection.session,
            resource=connection.asked or "",
            source=connection.address,
            status=said.status,
            code=said.code,
            at=at,
        )

    def unverified(self, worker: int, said: Unverified, at: datetime) -> HandshakeRefused:
        """The peer did not prove who it is."""
        connection = self._find(worker, said.tunnel)
        if connection.session is not _NOBODY:
            raise Impossible("a handshake was refused that was over")
        return HandshakeRefused(source=connection.address, code=said.code, detail=said.detail, at=at)

    def count(self, worker: int, tunnel: UUID, up: int, down: int, dropped: int) -> None:
        """How much went through a tunnel so far. It may have ended before this was read."""
        connection = self._all.get(tunnel)
        if connection is not None and connection.worker == worker:
            connection.bytes_up, connection.bytes_down, connection.dropped = up, down, dropped

    def end(self, worker: int, tunnel: UUID) -> None:
        """Nothing is left of a connection."""
        connection = self._find(worker, tunnel)
        if connection.opened is not None:
            raise Impossible("a tunnel ended without being closed")
        share = self._shares[worker]
        del share.all[tunnel]
        share.unverified.pop(tunnel, None)
        if not share.all:
            del self._shares[worker]
        self._forget(connection)

    # What is taken away

    def close(self) -> list[Connection]:
        """Takes nobody in any more; who has to leave."""
        self._closed = True
        leaving = [each for each in self if each.session is not _NOBODY and each.asked is None and not each.refused]
        for each in leaving:
            self._let_go(each)
        return leaving

    def doomed(self, cut: Cut) -> dict[int, list[UUID]]:
        """Which connections a cut ends, by worker."""
        found: dict[int, list[UUID]] = {}
        for connection in self._sessions.get(cut.session, {}).values():
            spared = connection.reach in cut.kept if connection.reach is not None else bool(cut.kept)
            if not spared:
                found.setdefault(connection.worker, []).append(connection.tunnel)
        return found

    def everything(self) -> dict[int, list[UUID]]:
        """Every connection there is, by worker."""
        return {worker: list(share.all) for worker, share in self._shares.items()}

    def lose(self, worker: int, code: str, now: float, at: datetime) -> tuple[list[TunnelClosed], int]:
        """A worker is gone: its tunnels, closed with `code` at `now`, and how many connections it had in all.

        What went through them is known as far as it was counted: the worker counted exactly, and is gone.
        """
        lost = self._shares.pop(worker, _Share()).all.values()
        closed = []
        for each in lost:
            self._forget(each)
            if each.opened is not None:
                self._open -= 1
                counts = (each.bytes_up, each.bytes_down, each.dropped)
                closed.append(_closed(each.opened, counts, max(0.0, now - each.since), code, at))
        return closed, len(lost)

    # Inside

    def _find(self, worker: int, tunnel: UUID) -> Connection:
        connection = self._all.get(tunnel)
        if connection is None or connection.worker != worker:
            raise Impossible("a worker spoke of a connection it does not have")
        return connection

    def _make_room(self, session: UUID) -> list[Connection]:
        oldest = None
        if self._verified >= self._most:
            oldest = self._parked.oldest()
        elif len(self._sessions.get(session, ())) >= self._most_of_session:
            oldest = self._parked.oldest(session)
        if oldest is None:
            return []
        self._let_go(oldest)
        return [oldest]

    def _let_go(self, connection: Connection) -> None:
        connection.refused = True
        self._uncount(connection)

    def _forget(self, connection: Connection) -> None:
        del self._all[connection.tunnel]
        self._asked -= connection.asked is not None
        self._uncount(connection)

    def _uncount(self, connection: Connection) -> None:
        self._parked.discard(connection)
        if connection.counted:
            connection.counted = False
            self._verified -= 1
            mine = self._sessions[connection.session]
            del mine[connection.tunnel]
            if not mine:
                del self._sessions[connection.session]


def _closed(
    opened: TunnelOpened, counts: tuple[int, int, int], seconds: float, reason: str, at: datetime
) -> TunnelClosed:
    up, down, dropped = counts
    return TunnelClosed(
        tunnel=opened.tunnel,
        session=opened.session,
        resource=opened.resource,
        bytes_up=up,
        bytes_down=down,
        seconds=seconds,
        reason=reason,
        dropped=dropped,
        at=at,
    )
