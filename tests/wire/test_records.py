"""wire/records.py: the buffers all connections share keep nothing of one for another."""

import os

import pytest

from certs import Purpose
from tests.wire.harness import DOMAIN, GATEWAY, SESSION, Authority
from wire import limits
from wire.errors import TlsRefused
from wire.records import Records, receive_buffer
from wire.tls import ClientTls, ServerTls


class Ends:
    """Two ends of one connection over memory alone; `wire` is what is on its way to the server."""

    def __init__(self, authority: Authority) -> None:
        server = ServerTls(authority.identity(GATEWAY), authority.trust, frozenset({Purpose.SESSIONS}))
        client = ClientTls(authority.identity(SESSION), authority.trust, GATEWAY)
        self.server = Records(server.new_connection())
        self.client = Records(client.new_connection())
        self._policies = server, client
        to_client, done = b"", [False, False]
        to_server = b""
        while not all(done):
            done[1] = done[1] or self.client.handshake(put(to_client))
            to_server = bytes(self.client.outgoing())
            if done[1] and not done[0]:
                to_server += bytes(self.client.seal(b"behind the handshake"))
            done[0] = done[0] or self.server.handshake(put(to_server))
            to_client = bytes(self.server.outgoing())
        assert bytes(self.client.open(put(to_client))) == b""

    def seal(self, plain: bytes) -> bytes:
        pieces = (plain[at : at + limits.SLICE] for at in range(0, len(plain), limits.SLICE))
        return b"".join(bytes(self.client.seal(piece)) for piece in pieces)


def put(data: bytes) -> int:
    """Puts `data` where a socket would."""
    receive_buffer()[: len(data)] = data
    return len(data)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make(DOMAIN)


@pytest.fixture
def ends(authority: Authority) -> Ends:
    made = Ends(authority)
    assert bytes(made.server.open(0)) == b"behind the handshake"
    return made


@pytest.mark.parametrize("size", [1, 5, 21, 16_385, 100_000, limits.READ_SIZE])
def test_records_open_however_they_were_cut(ends: Ends, size: int) -> None:
    plain = os.urandom(300_000)
    sealed, opened = ends.seal(plain[: 300 * size]), b""
    for start in range(0, len(sealed), size):
        opened += ends.server.open(put(sealed[start : start + size]))
    assert opened == plain[: 300 * size]


def test_two_connections_in_turn_never_see_each_other(authority: Authority, ends: Ends) -> None:
    other = Ends(authority)
    assert bytes(other.server.open(0)) == b"behind the handshake"
    mine, theirs = os.urandom(100_000), os.urandom(100_000)
    sealed, others, opened, of_other = ends.seal(mine), other.seal(theirs), b"", b""
    for start in range(0, len(sealed), 777):
        opened += ends.server.open(put(sealed[start : start + 777]))
        of_other += other.server.open(put(others[start : start + 777]))
    assert (opened, of_other) == (mine, theirs)


def test_what_was_kept_is_opened_in_turn_and_within_the_buffer(ends: Ends) -> None:
    plain = os.urandom(2 * limits.READ_SIZE)
    sealed = ends.seal(plain)
    cuts = range(0, len(sealed), limits.READ_SIZE)
    for start in cuts:
        ends.server.keep(put(sealed[start : start + limits.READ_SIZE]))
    opened, turns = bytes(ends.server.open(put(ends.seal(b"and more")))), 1
    while ends.server.waiting:
        opened, turns = opened + ends.server.open(0), turns + 1
    assert opened == plain + b"and more"
    assert turns == len(cuts)


def test_nothing_behind_the_end_is_read(ends: Ends) -> None:
    sealed = ends.seal(b"last") + bytes(ends.client.close_notify())
    assert bytes(ends.server.open(put(sealed + b"rubbish that is no record at all"))) == b"last"
    assert ends.server.ended
    assert bytes(ends.server.open(put(b"more"))) == b""
    assert ends.server.close_notify()


def test_what_is_no_record_is_refused_and_nothing_behind_it_is_read(ends: Ends) -> None:
    with pytest.raises(TlsRefused):
        ends.server.open(put(b"GET / HTTP/1.1\r\n\r\n" * 100))
    with pytest.raises(TlsRefused):
        ends.server.open(put(b"again"))


def test_a_connection_that_was_busy_shrinks_and_goes_on(ends: Ends) -> None:
    for _ in range(2):
        plain = os.urandom(limits.SLICE)
        assert bytes(ends.server.open(put(ends.seal(plain)))) == plain
        assert bytes(ends.client.open(put(bytes(ends.server.seal(plain))))) == plain
        half = ends.seal(b"in two pieces")
        assert bytes(ends.server.open(put(half[:9]))) == b""
        for each in (ends.server, ends.client):
            each.shrink()
        assert bytes(ends.server.open(put(half[9:]))) == b"in two pieces"
