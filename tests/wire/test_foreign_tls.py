"""What becomes of clients that are none of ours: sessions of before, other groups, an older TLS."""

import asyncio

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from certs import Identity, load_private_key
from tests.wire.harness import SESSION, Recorder, Wire
from wire.errors import TlsRefused
from wire.tls import ServerTls


def foreign_context(identity: Identity) -> SSL.Context:
    """A TLS client with a policy of its own."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(identity.leaf)
    context.use_privatekey(load_private_key(identity.key))
    return context


async def shake(wire: Wire, server: ServerTls, connection: SSL.Connection) -> Recorder:
    """Run a foreign client's handshake against our server; the server's protocol."""
    here = wire.recorder()
    serving = asyncio.ensure_future(wire.serve_one(server, lambda: here))
    sock = await wire.dial()
    loop = asyncio.get_running_loop()
    connection.set_connect_state()
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            await loop.sock_sendall(sock, _drain(connection))
            data = await loop.sock_recv(sock, 65536)
            if not data:
                sock.close()
                raise TlsRefused("closed", "closed") from None
            connection.bio_write(data)
        except SSL.Error as error:
            sock.close()
            raise TlsRefused("refused", str(error)) from None
        else:
            await loop.sock_sendall(sock, _drain(connection))
            break
    await serving
    made = await here.made
    made.write(b"x")
    while True:
        try:
            assert connection.recv(10) == b"x"
        except SSL.WantReadError:
            connection.bio_write(await loop.sock_recv(sock, 65536))
        else:
            break
    sock.close()
    return here


def _drain(connection: SSL.Connection) -> bytes:
    try:
        return connection.bio_read(65536)
    except SSL.WantReadError:
        return b""


@pytest.mark.parametrize("ticket", [False, True])
async def test_there_are_no_tickets_and_a_session_of_before_is_worth_nothing(wire: Wire, *, ticket: bool) -> None:
    """Not even with a ticket, which a server of ours sends only if OpenSSL changed under it."""
    server = wire.server_tls()
    if ticket:
        server._context.set_tlsext_servername_callback(lambda _connection: None)
    context = foreign_context(wire.authority.identity(SESSION))
    context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
    states: set[bytes] = set()
    context.set_info_callback(lambda each, _where, _result: states.add(each.get_state_string()))
    first, again = SSL.Connection(context, None), SSL.Connection(context, None)
    await shake(wire, server, first)
    assert any(b"session ticket" in state for state in states) is ticket, states
    session = first.get_session()
    assert session is not None
    again.set_session(session)
    if ticket:
        with pytest.raises(TlsRefused):
            await shake(wire, server, again)
        return
    here = await shake(wire, server, again)
    assert not lib.SSL_session_reused(again._ssl)
    assert here.transport.get_extra_info("peer") == SESSION


@pytest.mark.parametrize(
    ("groups", "taken"), [("X25519", "X25519"), ("P-256", None), ("P-256:X25519", "X25519"), ("X448", None)]
)
async def test_key_exchange_is_one_of_two(wire: Wire, groups: str, taken: str | None) -> None:
    context = foreign_context(wire.authority.identity(SESSION))
    assert lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1
    connection = SSL.Connection(context, None)
    if taken is None:
        with pytest.raises(TlsRefused):
            await shake(wire, wire.server_tls(), connection)
        assert (await wire.refusals.get()).reason == "no_group"
    else:
        here = await shake(wire, wire.server_tls(), connection)
        assert here.transport.get_extra_info("group") == taken


async def test_tls_1_2_is_refused(wire: Wire) -> None:
    context = foreign_context(wire.authority.identity(SESSION))
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with pytest.raises(TlsRefused):
        await shake(wire, wire.server_tls(), SSL.Connection(context, None))
    assert (await wire.refusals.get()).reason == "old_tls"
