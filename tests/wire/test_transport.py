import asyncio
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
from typing import IO, Any

import pytest

from tests.wire.harness import SESSION, Recorder, Wire, until
from wire import limits
from wire.errors import TlsRefused, Truncated
from wire.tls import connect_tls

BIG = 50_000_000


class Counter(Recorder):
    """Digests and counts instead of keeping."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.count = 0

    def data_received(self, data: bytes) -> None:
        self.digest.update(data)
        self.count += len(data)


class Viewer(Counter):
    """Takes views."""

    def view_received(self, view: memoryview) -> None:
        self.data_received(bytes(view))


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.counter.data_received(bytes(self.buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self.counter.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.counter.connection_lost(exc)


@pytest.mark.parametrize("kind", [Counter, Viewer, Buffered])
async def test_fifty_megabytes_arrive_whole_both_ways_at_once(wire: Wire, kind: type[Any]) -> None:
    pair = await wire.pair()
    counters = [Counter() if kind is Buffered else kind() for _ in range(2)]
    for counter, recorder in zip(counters, (pair.client, pair.server), strict=True):
        counter.transport = recorder.transport
        # Backpressure still reaches the one who writes.
        counter.pause_writing, counter.resume_writing = recorder.pause_writing, recorder.resume_writing
        protocol = Buffered(counter) if kind is Buffered else counter
        if kind is Buffered:
            protocol.pause_writing, protocol.resume_writing = recorder.pause_writing, recorder.resume_writing
        recorder.transport.set_protocol(protocol)
    size = BIG if kind is Viewer else BIG // 10
    data = [os.urandom(size), os.urandom(size)]
    async with asyncio.TaskGroup() as group:
        group.create_task(pair.client.send(data[0]))
        group.create_task(pair.server.send(data[1]))
    pair.client.transport.write_eof()
    pair.server.transport.write_eof()
    await counters[0].ended
    await counters[1].ended
    assert counters[0].digest.digest() == hashlib.sha256(data[1]).digest()
    assert counters[1].digest.digest() == hashlib.sha256(data[0]).digest()
    pair.client.transport.close()
    pair.server.transport.close()
    assert await counters[0].lost is None
    assert await counters[1].lost is None
    for recorder in (pair.client, pair.server):
        recorder.lost.set_result(None)


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_536, 65_537, 262_144, 1_000_003])
async def test_one_write_of_any_size_arrives_whole(wire: Wire, size: int) -> None:
    pair = await wire.pair()
    data = os.urandom(size)
    for form in (data, bytearray(data), memoryview(data)):
        pair.client.transport.write(form)
        assert await pair.server.wait_for(size) == data
    pair.server.transport.writelines([data[: size // 2], b"", memoryview(data)[size // 2 :]])
    assert await pair.client.wait_for(size) == data


async def test_a_view_of_wider_items_is_its_bytes(wire: Wire) -> None:
    pair = await wire.pair()
    pair.client.transport.write(memoryview(b"abcdefgh").cast("I"))
    assert await pair.server.wait_for(8) == b"abcdefgh"


async def test_a_buffer_may_be_overwritten_as_soon_as_write_returns(wire: Wire) -> None:
    pair = await wire.pair()
    buffer = bytearray(4096)
    for number in range(256):
        buffer[:] = bytes([number]) * 4096
        pair.client.transport.write(buffer)
    for number in range(256):
        assert await pair.server.wait_for(4096) == bytes([number]) * 4096


async def test_a_slow_reader_stops_the_sender_and_memory_stays_bounded(wire: Wire) -> None:
    pair = await wire.pair()
    pair.server.transport.pause_reading()
    assert not pair.server.transport.is_reading()
    sending = asyncio.ensure_future(pair.client.send(os.urandom(BIG)))
    await until(lambda: not pair.client.writable.is_set())
    held = pair.client.transport.get_write_buffer_size()
    assert held <= limits.WRITE_HIGH + 110_000
    assert not pair.server.received
    assert not sending.done()
    pair.server.transport.resume_reading()
    await pair.server.wait_for(BIG)
    await sending
    assert pair.client.transport.get_write_buffer_size() == 0


async def test_a_protocol_that_pauses_hears_nothing_until_it_resumes(wire: Wire) -> None:
    pair = await wire.pair()
    pair.server.transport.pause_reading()
    pair.server.transport.pause_reading()
    pair.client.transport.write(b"held")
    pair.client.transport.write_eof()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not pair.server.received
    assert not pair.server.ended.done()
    pair.server.transport.resume_reading()
    pair.server.transport.resume_reading()
    assert await pair.server.wait_for(4) == b"held"
    await pair.server.ended


async def test_a_protocol_that_pauses_while_it_reads_hears_the_end_only_later(wire: Wire) -> None:
    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    here = Pausing()
    wire.recorders.append(here)
    serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), lambda: here))
    transport, _ = await connect_tls(await wire.dial(), wire.client_tls(), wire.recorder)
    await serving
    await here.made
    transport.write(b"x")
    transport.write_eof()
    await here.wait_for(1)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not here.ended.done()
    here.transport.resume_reading()
    await here.ended


async def test_half_close_leaves_the_other_direction(wire: Wire) -> None:
    pair = await wire.pair()
    for ended, open_one in ((pair.client, pair.server), (pair.server, pair.client)):
        assert ended.transport.can_write_eof()
        ended.transport.write(b"last words")
        ended.transport.write_eof()
        ended.transport.write_eof()
        assert await open_one.wait_for(10) == b"last words"
        await open_one.ended
        with pytest.raises(RuntimeError):
            ended.transport.write(b"more")
        if not ended.ended.done():
            await open_one.send(b"still talking")
            assert await ended.wait_for(13) == b"still talking"
    assert not pair.client.lost.done()
    pair.client.transport.close()
    pair.server.transport.close()
    assert await pair.client.lost is None
    assert await pair.server.lost is None


async def test_a_protocol_that_does_not_keep_its_half_is_closed(wire: Wire) -> None:
    pair = await wire.pair(keep_open=False)
    pair.client.transport.write_eof()
    await pair.server.ended
    assert await pair.server.lost is None
    await pair.client.ended
    assert await pair.client.lost is None


async def test_closing_delivers_everything_that_was_written(wire: Wire) -> None:
    pair = await wire.pair(keep_open=False)
    data = os.urandom(3_000_000)
    pair.client.transport.write(data)
    pair.client.transport.close()
    assert pair.client.transport.is_closing()
    pair.client.transport.write(b"not this")
    assert await pair.server.wait_for(len(data)) == data
    await pair.server.ended
    assert not pair.server.received
    assert await pair.client.lost is None


async def test_what_was_sent_last_arrives_though_the_peer_was_still_talking(wire: Wire) -> None:
    """A plain close with unread data resets the connection, and the refusal with it."""
    pair = await wire.pair(keep_open=False)
    pair.server.transport.pause_reading()
    pair.client.transport.write(os.urandom(200_000))
    await asyncio.sleep(0.01)
    pair.server.transport.write(b"refused, because")
    pair.server.transport.close()
    assert await pair.client.wait_for(16) == b"refused, because"
    await pair.client.ended
    assert await pair.client.lost is None
    assert await pair.server.lost is None


async def test_closing_does_not_wait_for_a_peer_that_never_answers(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER", 0.02)
    pair = await wire.pair(keep_open=True)
    pair.server.transport.close()
    assert await pair.server.lost is None


async def test_closing_gives_up_on_a_peer_that_takes_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER", 0.02)
    monkeypatch.setattr(limits, "CLOSE_DEADLINE", 0.1)
    pair = await wire.pair()
    pair.client.transport.pause_reading()
    pair.server.transport.write(os.urandom(20_000_000))
    assert pair.server.transport.get_write_buffer_size() > 0
    pair.server.transport.close()
    await pair.server.lost


async def test_abort_resets_at_once_and_drops_what_was_owed(wire: Wire) -> None:
    pair = await wire.pair()
    pair.client.transport.pause_reading()
    pair.server.transport.write(os.urandom(20_000_000))
    pair.server.transport.abort()
    pair.server.transport.abort()
    await pair.server.lost
    pair.client.transport.resume_reading()
    lost = await pair.client.lost
    assert isinstance(lost, ConnectionError)
    assert len(pair.client.received) < 20_000_000


async def test_a_stream_that_just_stops_is_truncated_not_ended(wire: Wire) -> None:
    pair = await wire.pair()
    pair.client.transport.write(b"half of it")
    raw = socket.socket(fileno=os.dup(pair.client.transport.get_extra_info("socket").fileno()))
    raw.shutdown(socket.SHUT_WR)
    raw.close()
    lost = await pair.server.lost
    assert isinstance(lost, Truncated)
    assert pair.server.received == b"half of it"
    assert not pair.server.ended.done()


async def test_garbage_after_the_handshake_ends_the_connection(wire: Wire) -> None:
    pair = await wire.pair()
    raw = socket.socket(fileno=os.dup(pair.client.transport.get_extra_info("socket").fileno()))
    raw.send(b"\x17\x03\x03\x00\x30" + os.urandom(48))
    raw.close()
    lost = await pair.server.lost
    assert isinstance(lost, TlsRefused)
    assert not pair.server.received


async def test_streams_of_asyncio_run_on_it(wire: Wire) -> None:
    pair = await wire.pair()
    loop = asyncio.get_running_loop()
    ends = []
    for recorder in (pair.client, pair.server):
        reader = asyncio.StreamReader(limit=1000)
        protocol = asyncio.StreamReaderProtocol(reader)
        recorder.transport.set_protocol(protocol)
        protocol.connection_made(recorder.transport)
        ends.append((reader, asyncio.StreamWriter(recorder.transport, protocol, reader, loop)))
    (client_reader, client), (server_reader, server) = ends
    data = os.urandom(1_000_000)

    async def echo() -> None:
        while piece := await server_reader.read(10_000):
            server.write(piece)
            await server.drain()
        server.close()
        await server.wait_closed()

    async with asyncio.TaskGroup() as group:
        group.create_task(echo())
        reading = group.create_task(client_reader.read(-1))
        for start in range(0, len(data), 50_000):
            client.write(data[start : start + 50_000])
            await client.drain()
        client.write_eof()
    assert reading.result() == data
    client.close()
    await client.wait_closed()
    for recorder in (pair.client, pair.server):
        recorder.lost.set_result(None)


async def type_line(pipe: IO[bytes], line: bytes) -> None:
    """Write a line and wait until it was read: `s_client` takes a whole read for one command."""
    os.write(pipe.fileno(), line + b"\n")
    await until(lambda: not int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder))


async def test_key_updates_are_answered_and_a_flood_of_them_ends_the_connection(wire: Wire) -> None:
    """OpenSSL lets nobody here send a KeyUpdate; the `openssl` command sends one for every line `K`."""
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("there is no openssl command to send key updates with")
    identity = wire.authority.identity(SESSION)
    here = wire.recorder()
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(identity.chain_pem + identity.key.reveal())
        pem.flush()
        host, port = wire.address
        arguments = ["s_client", "-connect", f"{host}:{port}", "-cert", pem.name, "-key", pem.name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), lambda: here))
        peer = subprocess.Popen([command, *arguments], **pipes)  # noqa: ASYNC220 (its pipe is written by hand)
        assert peer.stdin is not None
        await serving
        await here.made
        for number in range(limits.MAX_POST_HANDSHAKE):
            await type_line(peer.stdin, b"K")
            await type_line(peer.stdin, b"%d" % number)
            await here.wait_for(len(b"%d\n" % number))
        await type_line(peer.stdin, b"K")
        lost = await here.lost
        peer.kill()
        peer.communicate()
    assert isinstance(lost, TlsRefused)
    assert lost.reason == "key_update_flood"
