"""The laws of gateway/workers/ledger.py."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.leases import Cut, Reach, Refusal
from gateway.workers.ledger import Impossible, Ledger
from gateway.workers.messages import Asks, Closed, Declined, Opened, Unverified
from spa.packet import KnockKind
from spa.source import Source

SOURCE = Source(ip_address("192.0.2.7"), 4711, frozenset({KnockKind.TUNNEL}), frozenset({"device/1"}))
AT = datetime(2026, 1, 1, tzinfo=UTC)
ALICE, BOB = UUID(int=7), UUID(int=8)
WIKI = Reach("wiki", 80, "10.0.0.1", 80, "tcp")
SHOP = Reach("shop", 80, "10.0.0.1", 80, "tcp")


def t(number: int) -> UUID:
    return UUID(int=number)


def asks(number: int) -> Asks:
    return Asks(t(number), "wiki", 80, "tcp")


def opened(number: int) -> Opened:
    return Opened(t(number), "10.0.0.1", 80, "X25519")


def closed(number: int) -> Closed:
    return Closed(t(number), 1, 2, 3.0, "done", 0)


def ledger(most: int = 100, most_of_session: int = 100, parked: int = 8) -> Ledger:
    return Ledger(most, most_of_session, parked, parked)


def verified(book: Ledger, number: int, *, worker: int = 1, session: UUID = ALICE) -> Refusal | None:
    book.take(t(number), worker, SOURCE, 0.0)
    refusal, leaving = book.verify(worker, t(number), session)
    assert leaving == []
    return refusal


def carrying(book: Ledger, number: int, *, worker: int = 1, session: UUID = ALICE, reach: Reach = WIKI) -> None:
    assert verified(book, number, worker=worker, session=session) is None
    asking = book.ask(worker, asks(number))
    assert asking is not None
    book.permit(asking, reach)
    book.opened(worker, opened(number), 1.0, AT)


def test_a_connection_is_in_the_ledger_until_it_has_ended() -> None:
    book = ledger()
    carrying(book, 1)
    assert (len(book), book.load(1), book.asked, book.open) == (1, 1, 1, 1)
    book.closed(1, closed(1), AT)
    assert (len(book), book.load(1), book.asked, book.open) == (1, 1, 1, 0)
    book.end(1, t(1))
    assert (len(book), book.load(1), book.asked, book.open) == (0, 0, 0, 0)


def test_a_session_has_its_share_over_all_workers() -> None:
    book = ledger(most_of_session=2)
    carrying(book, 1, worker=1)
    assert verified(book, 2, worker=2) is None
    refusal = verified(book, 3, worker=3)
    assert refusal is not None
    assert refusal.status == 429
    assert verified(book, 4, worker=3, session=BOB) is None
    assert book.ask(3, asks(3)) is None  # refused already: no second answer
    book.end(3, t(3))
    book.end(2, t(2))
    assert verified(book, 5, worker=1) is None


def test_a_gateway_has_its_most_over_all_workers() -> None:
    book = ledger(most=2)
    assert verified(book, 1, worker=1) is None
    assert verified(book, 2, worker=2, session=BOB) is None
    refusal = verified(book, 3, worker=2, session=UUID(int=9))
    assert refusal is not None
    assert refusal.status == 503


@pytest.mark.parametrize(
    ("kept", "doomed"),
    [
        (frozenset(), {1: [t(1), t(3)], 2: [t(2)]}),
        (frozenset({SHOP}), {1: [t(1)]}),
        (frozenset({SHOP, WIKI}), {}),
    ],
)
def test_a_cut_names_what_may_not_live_on(kept: frozenset[Reach], doomed: dict[int, list[UUID]]) -> None:
    book = ledger()
    carrying(book, 1, worker=1)
    carrying(book, 2, worker=2, reach=SHOP)
    verified(book, 3, worker=1)  # it has not asked: the new lease will judge it, if there is one
    carrying(book, 4, worker=2, session=BOB)
    book.take(t(5), 1, SOURCE, 0.0)
    assert book.doomed(Cut(ALICE, "revoked", "", kept)) == doomed
    assert book.everything() == {1: [t(1), t(3), t(5)], 2: [t(2), t(4)]}


def test_parked_connections_make_way_and_are_owed_no_answer() -> None:
    book = ledger(most_of_session=2)
    verified(book, 1, worker=1)
    verified(book, 2, worker=2)
    assert book.park(1, t(1)) == []
    assert book.park(2, t(2)) == []
    book.take(t(3), 2, SOURCE, 0.0)
    refusal, leaving = book.verify(2, t(3), ALICE)
    assert refusal is None
    assert [each.tunnel for each in leaving] == [t(1)]
    assert book.parked == 1
    assert book.ask(1, asks(1)) is None  # its question crossed the word to leave
    assert book.ask(2, asks(2)) is not None
    assert book.parked == 0
    assert book.doomed(Cut(ALICE, "revoked", "")) == {2: [t(2), t(3)]}
    book.end(1, t(1))
    assert len(book) == 2


def test_the_oldest_parked_goes_when_there_are_too_many_over_all_workers() -> None:
    book = ledger(parked=1)
    verified(book, 1, worker=1)
    verified(book, 2, worker=2)
    assert book.park(1, t(1)) == []
    assert [(each.worker, each.tunnel) for each in book.park(2, t(2))] == [(1, t(1))]
    assert verified(book, 3) is None
    assert book.ask(1, asks(3)) is not None
    book.end(2, t(2))
    assert (book.parked, len(book)) == (0, 2)


def test_a_lost_worker_takes_what_it_had_and_no_more() -> None:
    book = ledger(most=3)
    carrying(book, 1, worker=1)
    carrying(book, 2, worker=2)
    verified(book, 3, worker=1)
    book.count(1, t(1), 5, 6, 0)
    (closed,), connections = book.lose(1, "worker_lost", 8.0, AT)
    told = (closed.tunnel, closed.session, closed.resource, closed.bytes_up, closed.bytes_down, closed.seconds)
    assert told == (t(1), ALICE, "wiki", 5, 6, 7.0)
    assert (closed.reason, connections) == ("worker_lost", 2)
    assert (len(book), book.open, book.load(1), book.load(2)) == (1, 1, 0, 1)
    assert book.lose(1, "worker_lost", 8.0, AT) == ([], 0)
    assert verified(book, 4, worker=2) is None


def test_who_owes_a_word_longest() -> None:
    book = ledger()
    assert book.longest_unverified(1) is None
    book.take(t(1), 1, SOURCE, 3.0)
    book.take(t(2), 1, SOURCE, 4.0)
    assert book.longest_unverified(1) == 3.0
    book.verify(1, t(1), ALICE)
    assert book.longest_unverified(1) == 4.0
    book.end(1, t(2))
    assert book.longest_unverified(1) is None


def test_what_the_controller_hears_is_the_ledgers_to_say() -> None:
    """A worker names the tunnel, and what only it can know."""
    book = ledger()
    book.take(t(9), 1, SOURCE, 0.0)
    refused = book.unverified(1, Unverified(t(9), "expired", "it has expired"), AT)
    assert (refused.source.host, refused.source.port, refused.code) == ("192.0.2.7", 4711, "expired")
    assert verified(book, 1) is None
    late = book.declined(1, Declined(t(1), 408, "connect_deadline"), AT)
    assert (late.session, late.resource, late.status) == (ALICE, "", 408)
    asking = book.ask(1, asks(1))
    assert asking is not None
    no = book.declined(1, Declined(t(1), 403, "no_grant"), AT)
    assert (no.resource, no.source.host, no.code) == ("wiki", "192.0.2.7", "no_grant")
    book.permit(asking, WIKI)
    begun = book.opened(1, opened(1), 1.0, AT)
    assert (begun.session, begun.resource, begun.protocol, begun.source.port) == (ALICE, "wiki", "tcp", 4711)
    assert (begun.target.host, begun.group, begun.at) == ("10.0.0.1", "X25519", AT)
    over = book.closed(1, closed(1), AT)
    assert (over.session, over.resource, over.bytes_up, over.bytes_down) == (ALICE, "wiki", 1, 2)
    assert (over.seconds, over.reason) == (3.0, "done")


@pytest.mark.parametrize(
    "lie",
    [
        lambda book: book.verify(1, t(99), ALICE),
        lambda book: book.verify(2, t(1), ALICE),
        lambda book: book.verify(1, t(2), ALICE),
        lambda book: book.park(1, t(1)),
        lambda book: book.park(1, t(3)),
        lambda book: book.ask(1, asks(1)),
        lambda book: book.ask(1, asks(3)),
        lambda book: book.opened(1, opened(2), 1.0, AT),
        lambda book: book.opened(1, opened(3), 1.0, AT),
        lambda book: book.closed(1, closed(4), AT),
        lambda book: book.closed(2, closed(3), AT),
        lambda book: book.declined(1, Declined(t(1), 403, "no_grant"), AT),
        lambda book: book.declined(1, Declined(t(3), 403, "no_grant"), AT),
        lambda book: book.unverified(1, Unverified(t(2), "expired", ""), AT),
        lambda book: book.end(1, t(3)),
        lambda book: book.end(2, t(1)),
    ],
)
def test_a_worker_that_lies_is_found_out(lie: Callable[[Ledger], object]) -> None:
    book = ledger()
    book.take(t(1), 1, SOURCE, 0.0)
    verified(book, 2)
    carrying(book, 3)
    verified(book, 4)
    asking = book.ask(1, asks(4))
    assert asking is not None
    book.permit(asking, WIKI)
    with pytest.raises(Impossible):
        lie(book)


class Workers(RuleBasedStateMachine):
    """Whatever workers say and in whatever order, the sums are those of a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Ledger(6, 3, 2, 1)
        self.made = 0

    any_tunnel = st.integers(1, 12).map(t)
    any_worker = st.integers(1, 2)
    any_session = st.sampled_from([ALICE, BOB])

    @rule(worker=any_worker)
    def take(self, worker: int) -> None:
        if self.made < 12:
            self.made += 1
            self.book.take(t(self.made), worker, SOURCE, 0.0)

    @rule(worker=any_worker, tunnel=any_tunnel, session=any_session)
    def verify(self, worker: int, tunnel: UUID, session: UUID) -> None:
        self.attempt(lambda: self.book.verify(worker, tunnel, session))

    @rule(worker=any_worker, tunnel=any_tunnel)
    def park(self, worker: int, tunnel: UUID) -> None:
        self.attempt(lambda: self.book.park(worker, tunnel))

    @rule(worker=any_worker, tunnel=any_tunnel)
    def ask(self, worker: int, tunnel: UUID) -> None:
        def ask() -> None:
            if (asking := self.book.ask(worker, Asks(tunnel, "wiki", 80, "tcp"))) is not None:
                self.book.permit(asking, WIKI)

        self.attempt(ask)

    @rule(worker=any_worker, number=st.integers(1, 12))
    def open(self, worker: int, number: int) -> None:
        self.attempt(lambda: self.book.opened(worker, opened(number), 0.0, AT))

    @rule(worker=any_worker, number=st.integers(1, 12))
    def close(self, worker: int, number: int) -> None:
        self.attempt(lambda: self.book.closed(worker, closed(number), AT))

    @rule(worker=any_worker, tunnel=any_tunnel)
    def end(self, worker: int, tunnel: UUID) -> None:
        self.attempt(lambda: self.book.end(worker, tunnel))

    @rule(worker=any_worker)
    def lose(self, worker: int) -> None:
        self.book.lose(worker, "worker_lost", 0.0, AT)

    @staticmethod
    def attempt(said: Callable[[], object]) -> None:
        with contextlib.suppress(Impossible):
            said()

    @invariant()
    def the_sums_are_right(self) -> None:
        everything = list(self.book)
        assert len(self.book) == len(everything) == sum(self.book.load(worker) for worker in (1, 2))
        assert self.book.open == sum(each.opened is not None for each in everything)
        assert self.book.asked == sum(each.asked is not None for each in everything)
        staying = [each for each in everything if each.counted and not each.refused]
        assert self.book.parked <= 2
        assert len(staying) <= 6
        for session in (ALICE, BOB):
            mine = {each.tunnel for each in everything if each.session == session and each.counted}
            assert sum(each.session == session for each in staying) <= 3
            doomed = self.book.doomed(Cut(session, "revoked", ""))
            assert {each for tunnels in doomed.values() for each in tunnels} == mine


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_closed_ledger_keeps_who_asked_and_nobody_else() -> None:
    book = ledger()
    carrying(book, 1)
    assert verified(book, 2) is None
    book.take(t(3), 1, SOURCE, 0.0)
    assert [each.tunnel for each in book.close()] == [t(2)]
    assert book.ask(1, asks(2)) is None  # its question and the word to leave crossed
    refusal, leaving = book.verify(1, t(3), BOB)
    assert (refusal, [each.tunnel for each in leaving]) == (None, [t(3)])
    for number in (2, 3):
        book.end(1, t(number))
    assert (book.asked, book.open, len(book), book.close()) == (1, 1, 1, [])
