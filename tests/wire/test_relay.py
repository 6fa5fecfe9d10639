import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable

import pytest

from tests.wire.harness import Recorder, Wire, until
from wire import limits
from wire.errors import Truncated
from wire.farewell import Farewell, farewells_said
from wire.relay import Held, Relay


class Far:
    """A relay between a TLS client and a plain TCP server, both held by the test."""

    def __init__(self, client: Recorder, relay: Relay, plain: socket.socket) -> None:
        self.client = client
        self.relay = relay
        self.plain = plain
        self.loop = asyncio.get_running_loop()

    async def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self.loop.sock_recv(self.plain, min(count - len(data), 262_144))
            assert piece, "the plain side ended"
            data += piece
        return bytes(data)

    async def end(self) -> bytes:
        return await self.loop.sock_recv(self.plain, 1)

    async def closed(self) -> str:
        async with asyncio.timeout(60):
            return await self.relay.closed


async def relay_of(wire: Wire, *, to_plain: bytes = b"", to_tls: bytes = b"") -> Far:
    pair = await wire.pair()
    tls = pair.server.transport
    tls.pause_reading()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        plain, _ = await loop.create_connection(Held, *listener.getsockname()[:2])
        far, _ = await loop.sock_accept(listener)
    far.settimeout(0)
    wire.recorders.remove(pair.server)
    relay = Relay(tls, plain, to_plain=to_plain, to_tls=to_tls)
    wire.relays.append((relay, far))
    return Far(pair.client, relay, far)


async def test_bytes_go_both_ways_and_are_counted_exactly(wire: Wire) -> None:
    far = await relay_of(wire, to_plain=b"first ", to_tls=b"greeting ")
    far.client.transport.write(b"second")
    assert await far.read(12) == b"first second"
    await far.loop.sock_sendall(far.plain, b"answer")
    assert await far.client.wait_for(15) == b"greeting answer"
    assert (far.relay.bytes_to_plain, far.relay.bytes_to_tls) == (12, 15)
    far.client.transport.write_eof()
    far.plain.shutdown(socket.SHUT_WR)
    assert await far.closed() == "done"
    await far.client.ended
    assert await far.end() == b""


async def test_fifty_megabytes_each_way_at_once(wire: Wire) -> None:
    far = await relay_of(wire)
    up, down = os.urandom(50_000_000), os.urandom(50_000_000)

    async def receive() -> str:
        digest, count = hashlib.sha256(), 0
        while piece := await far.loop.sock_recv(far.plain, 262_144):
            digest.update(piece)
            count += len(piece)
        assert count == len(up)
        return digest.hexdigest()

    async def send_up() -> None:
        await far.client.send(up)
        far.client.transport.write_eof()

    async def send_down() -> None:
        await far.loop.sock_sendall(far.plain, down)
        far.plain.shutdown(socket.SHUT_WR)

    async with asyncio.TaskGroup() as group:
        received = group.create_task(receive())
        group.create_task(send_up())
        group.create_task(send_down())
        arrived = group.create_task(far.client.wait_for(len(down)))
    assert received.result() == hashlib.sha256(up).hexdigest()
    assert arrived.result() == down
    assert await far.closed() == "done"
    assert (far.relay.bytes_to_plain, far.relay.bytes_to_tls) == (len(up), len(down))


async def test_half_close_from_the_client_leaves_the_answer(wire: Wire) -> None:
    far = await relay_of(wire)
    far.client.transport.write(b"question")
    far.client.transport.write_eof()
    assert await far.read(8) == b"question"
    assert await far.end() == b""
    await far.loop.sock_sendall(far.plain, b"answer")
    assert await far.client.wait_for(6) == b"answer"
    far.plain.close()
    await far.client.ended
    assert await far.closed() == "done"


async def test_half_close_from_the_resource_leaves_the_question(wire: Wire) -> None:
    far = await relay_of(wire)
    far.plain.shutdown(socket.SHUT_WR)
    await far.client.ended
    far.client.transport.write(b"still talking")
    assert await far.read(13) == b"still talking"
    far.client.transport.close()
    assert await far.end() == b""
    assert await far.closed() == "done"


async def test_a_client_that_does_not_read_stops_the_resource(wire: Wire) -> None:
    far = await relay_of(wire)
    far.client.transport.pause_reading()
    sending = asyncio.ensure_future(far.loop.sock_sendall(far.plain, bytes(60_000_000)))
    await until(lambda: far.relay._plain.get_protocol()._held)
    held = far.relay._tls.get_write_buffer_size()
    assert limits.WRITE_HIGH < held <= 2 * limits.READ_SIZE + 70_000
    assert not sending.done()
    far.client.transport.resume_reading()
    await far.client.wait_for(60_000_000)
    await sending
    assert not far.relay._plain.get_protocol()._held


async def test_a_resource_that_does_not_read_stops_the_client(wire: Wire) -> None:
    far = await relay_of(wire)
    sending = asyncio.ensure_future(far.client.send(bytes(60_000_000)))
    await until(lambda: not far.relay._tls.is_reading())
    held = far.relay._plain.get_write_buffer_size()
    assert limits.WRITE_HIGH < held <= 2 * limits.READ_SIZE + 70_000
    assert not sending.done()
    assert len(await far.read(60_000_000)) == 60_000_000
    await sending
    assert far.relay._tls.is_reading()


async def test_a_slow_resource_is_said_goodbye_once(wire: Wire) -> None:
    """It is still owed bytes when both have ended, and then the client goes: one farewell delivers them, and ends."""
    far = await relay_of(wire)
    sent = 0
    while not far.relay._plain.get_write_buffer_size():
        await far.client.send(bytes(65_536))
        sent += 65_536
        await asyncio.sleep(0)
    far.client.transport.write_eof()
    far.plain.shutdown(socket.SHUT_WR)
    await until(lambda: far.relay._tls_gone)
    assert far.relay._plain.get_write_buffer_size()
    assert len(await far.read(sent)) == sent
    assert await far.end() == b""
    assert await far.closed() == "done"
    async with asyncio.timeout(60):
        await farewells_said()


async def test_a_cut_resets_both_sides(wire: Wire) -> None:
    far = await relay_of(wire)
    far.client.transport.write(b"x")
    await far.read(1)
    far.relay.cut("revoked")
    far.relay.cut("again")
    assert await far.closed() == "revoked"
    assert isinstance(await far.client.lost, ConnectionError)
    with pytest.raises(ConnectionResetError):
        await far.end()


async def test_a_cut_throws_away_what_a_slow_reader_is_owed(wire: Wire) -> None:
    far = await relay_of(wire)
    far.client.transport.pause_reading()
    sending = asyncio.ensure_future(far.loop.sock_sendall(far.plain, bytes(60_000_000)))
    await until(lambda: far.relay._plain.get_protocol()._held)
    far.relay.cut("revoked")
    assert await far.closed() == "revoked"
    with pytest.raises(ConnectionError):
        await sending
    far.client.transport.resume_reading()
    assert isinstance(await far.client.lost, ConnectionError)


async def test_a_client_that_breaks_off_resets_the_resource(wire: Wire) -> None:
    far = await relay_of(wire)
    far.client.transport.write(b"half")
    await far.read(4)
    far.client.transport.abort()
    assert await far.closed() == "tls_lost"
    with pytest.raises(ConnectionResetError):
        await far.end()


async def test_a_client_without_close_notify_resets_the_resource(wire: Wire) -> None:
    """A truncated upload must not look like a finished one."""
    far = await relay_of(wire)
    far.client.transport.write(b"half")
    await far.read(4)
    raw = socket.socket(fileno=os.dup(far.client.transport.get_extra_info("socket").fileno()))
    raw.shutdown(socket.SHUT_WR)
    raw.close()
    assert await far.closed() == "tls_lost"
    with pytest.raises(ConnectionResetError):
        await far.end()


async def test_a_resource_that_breaks_off_resets_the_client(wire: Wire) -> None:
    far = await relay_of(wire)
    await far.loop.sock_sendall(far.plain, b"half")
    await far.client.wait_for(4)
    far.plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    far.plain.close()
    assert await far.closed() == "plain_lost"
    assert isinstance(await far.client.lost, ConnectionError)
    assert not far.client.ended.done()


async def test_a_resource_that_answered_and_left_still_has_its_answer_delivered(wire: Wire) -> None:
    """It refuses a large upload: answers, closes, and resets what comes after."""
    far = await relay_of(wire)
    far.client.transport.write(b"beginning")
    await far.read(9)
    await far.loop.sock_sendall(far.plain, b"too large")
    far.plain.close()
    await far.client.ended
    assert await far.client.wait_for(9) == b"too large"
    while not far.relay.closed.done():
        far.client.transport.write(b"more of the upload")
        await asyncio.sleep(0.001)
    assert far.relay.closed.result() == "plain_lost"
    lost = await asyncio.wait_for(far.client.lost, 60) if far.client.lost.done() else None
    assert not isinstance(lost, Truncated)


async def test_a_relay_over_something_already_gone_is_over_at_once(wire: Wire) -> None:
    pair = await wire.pair()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        plain, _ = await loop.create_connection(Held, *listener.getsockname()[:2])
        far, _ = await loop.sock_accept(listener)
        pair.server.transport.abort()
        relay = Relay(pair.server.transport, plain, to_plain=b"x")
        assert await relay.closed == "tls_lost"
        assert relay.bytes_to_plain == 0
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(far, 1)
        far.close()


async def test_a_client_that_ended_before_the_relay_began_is_not_forgotten(wire: Wire) -> None:
    """CONNECT, payload and end in one go, while the gateway still dials."""
    pair = await wire.pair()
    tls = pair.server.transport
    tls.pause_reading()
    pair.client.transport.write(b"all of it")
    pair.client.transport.write_eof()
    await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        plain, _ = await loop.create_connection(Held, *listener.getsockname()[:2])
        sock, _ = await loop.sock_accept(listener)
    wire.recorders.remove(pair.server)
    far = Far(pair.client, Relay(tls, plain), sock)
    assert await far.read(9) == b"all of it"
    assert await far.end() == b""
    sock.close()
    assert await far.closed() == "done"


async def test_a_plain_side_is_read_at_most_once_before_the_relay_begins() -> None:
    near, far = socket.socketpair()
    far.settimeout(0)
    near.settimeout(0)
    loop = asyncio.get_running_loop()
    plain, held = await loop.connect_accepted_socket(Held, near)
    taken = idle = 0
    while idle < 20:  # turns of the loop in which nothing moved
        try:
            taken += far.send(bytes(65_536))
        except BlockingIOError:
            idle += 1
            await asyncio.sleep(0)
        assert taken < 4_194_304, "somebody reads"
    assert len(held.early) <= 262_144
    plain.abort()
    far.close()


TURN = limits.TURN_READS * limits.READ_SIZE


async def most_in_a_turn(count: Callable[[], int], enough: int) -> int:
    """How many bytes were counted in one turn of the event loop at most, until `enough` were."""
    most, before = 0, count()
    async with asyncio.timeout(60):
        while before < enough:
            await asyncio.sleep(0)
            now = count()
            most, before = max(most, now - before), now
    return most


async def test_a_turn_of_the_loop_carries_so_much_and_no_more_from_one_tunnel(wire: Wire) -> None:
    """Somebody in another thread keeps a socket full: only the relay decides how much it takes at a time."""
    far = await relay_of(wire)
    size = 60_000_000
    far.plain.settimeout(30)
    sending = asyncio.create_task(asyncio.to_thread(far.plain.sendall, bytes(size)))
    assert await most_in_a_turn(lambda: far.relay.bytes_to_tls, size) <= TURN
    await sending
    assert await far.client.wait_for(size) == bytes(size)


async def test_a_busy_tunnel_leaves_turns_to_the_quiet_ones(wire: Wire) -> None:
    busy, quiet = await relay_of(wire), [await relay_of(wire) for _ in range(10)]
    busy.plain.settimeout(30)
    stop = asyncio.Event()

    def keep_it_full() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                busy.plain.sendall(bytes(limits.READ_SIZE))

    filling = asyncio.create_task(asyncio.to_thread(keep_it_full))
    await until(lambda: busy.relay.bytes_to_tls > TURN)
    meanwhile = []
    for far in quiet * 5:
        before = busy.relay.bytes_to_tls
        far.client.transport.write(b"?")
        assert await far.read(1) == b"?"
        await far.loop.sock_sendall(far.plain, b"!")
        await far.client.wait_for(len(far.client.received) + 1)
        meanwhile.append(busy.relay.bytes_to_tls - before)
    # There and back: four reads of the loop, and the turn each of them may have to wait for.
    assert sorted(meanwhile)[len(meanwhile) // 2] <= 8 * TURN
    stop.set()
    busy.relay.cut("enough")
    await filling


async def test_who_looks_away_still_gets_the_last_bytes(wire: Wire) -> None:
    """Both directions have ended, and one peer takes nothing yet: a page that is read slowly."""
    far = await relay_of(wire)
    size = 20_000_000
    far.client.transport.write_eof()
    assert await far.end() == b""
    sending = asyncio.ensure_future(far.loop.sock_sendall(far.plain, bytes(size)))
    await until(lambda: far.relay.bytes_to_tls > size - 2_000_000)
    far.client.transport.pause_reading()
    await sending
    far.plain.close()
    await until(far.relay._tls.is_closing)
    farewell = far.relay._tls._lower.get_protocol()
    assert not isinstance(farewell, Farewell) or farewell._patience == limits.STALL_DEADLINE
    far.client.transport.resume_reading()
    await far.client.wait_for(size)
    assert await far.closed() == "done"
