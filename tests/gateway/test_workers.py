"""Worker processes, real ones, and what the main process does with whatever they say or do not say."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs import NameKind
from certs.store import IdentityStore, make_state_directory, write_public
from gateway import limits
from gateway.config import IDENTITY, TRUST
from gateway.leases import Cut, Refusal
from gateway.workers.channel import Breach, Channel, pair
from gateway.workers.dispatcher import Dispatcher
from gateway.workers.messages import (
    Asks,
    CutTunnels,
    Ended,
    Message,
    Ready,
    Start,
    Take,
    encode,
    packet_of,
    to_main,
    to_worker,
)
from gateway.workers.messages import Refused as Refusal_
from spa.packet import KnockKind
from spa.source import Source, seen_address
from tests.gateway.tunnel_world import ALICE, BOB, EDGE, KNOCKED, permit
from wire.connect import Accepted, ClientHandshake, NeedMore, Refused
from wire.messages import Permit
from wire.tls import ClientTls, connect_tls

PATIENCE = 30
START = Start(dial_seconds=5, tunnel_idle=0, udp_idle=120, tunnel_lifetime=0, log_json=False, log_level="error")


class Main:
    """A dispatcher with real workers and a lease for everybody, and a client's end of its connections."""

    def __init__(self, authority: Any, state: Path, workers: int, permit_: Permit, **options: Any) -> None:
        options = {"most": 100, "most_of_session": 100, **options}
        self.authority = authority
        self.reports: list[Any] = []
        self.workers = Dispatcher(
            workers,
            state,
            START,
            lambda *_: permit_,
            self.reports.append,
            random=lambda: 0.0,
            **options,
        )
        self.clients: list[Any] = []

    async def connect(self, session: Any = ALICE) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, (host, port) = listener.accept()
        for each in (ours, theirs):
            each.setblocking(False)  # noqa: FBT003
        self.workers.accept(theirs, Source(seen_address(host), port, frozenset({KnockKind.TUNNEL}), KNOCKED))
        tls = ClientTls(self.authority.identity(NameKind.SESSION, str(session)), self.authority.trust, EDGE)
        reader = asyncio.StreamReader()
        transport, protocol = await connect_tls(ours, tls, lambda: asyncio.StreamReaderProtocol(reader))
        writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        self.clients.append(writer)  # kept: its deletion would close
        return reader, writer

    async def tunnel(self, session: Any = ALICE) -> Any:
        reader, writer = await self.connect(session)
        handshake = ClientHandshake("wiki", 80)
        writer.write(handshake.request() + b"hello")
        answer: Any = NeedMore()
        while isinstance(answer, NeedMore):
            answer = handshake.receive(await reader.read(65536))
        if isinstance(answer, Accepted):
            assert answer.rest + await reader.readexactly(5 - len(answer.rest)) == b"hello"
        return answer, reader, writer

    def told(self, kind: str) -> list[Any]:
        return [each for each in self.reports if each.type == kind]

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker, _ in self.workers.workers]

    async def close(self) -> None:
        for each in self.clients:
            each.transport.abort()
        await self.workers.stop()
        assert self.pids == []


@pytest.fixture
async def start_workers(authority: Any, echo: Any, tmp_path: Path) -> AsyncIterator[Any]:
    state = tmp_path / "gateway"
    make_state_directory(state)
    IdentityStore(state).save(IDENTITY, authority.identity(NameKind.GATEWAY, "edge"))
    write_public(state / TRUST, authority.trust.to_pem())
    made: list[Main] = []

    async def start(workers: int, **options: Any) -> Main:
        main = Main(authority, state, workers, permit("wiki", echo.address), **options)
        made.append(main)
        main.workers.start()
        await asyncio.wait_for(main.workers.begun(), PATIENCE)
        return main

    yield start
    for each in made:
        await each.close()


async def test_both_carry_limits_hold_over_both_and_a_cut_reaches_both(start_workers: Any, eventually: Any) -> None:
    main = await start_workers(2, most_of_session=4)
    tunnels = [await main.tunnel() for _ in range(4)]
    assert [connections for _, connections in main.workers.workers] == [2, 2]
    refused, *_ = await main.tunnel()
    assert isinstance(refused, Refused)
    assert refused.status == 429
    bob, *_ = await main.tunnel(BOB)
    assert isinstance(bob, Accepted)
    await main.workers.count()
    assert [(each.bytes_up, each.bytes_down) for each in main.workers.connections] == [(5, 5)] * 5
    assert all(worker.memory_bytes and worker.cpu_seconds for worker, _ in main.workers.workers)
    ended = main.workers.cut(Cut(ALICE, "revoked", "gone"))
    assert len(ended) == 2
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(ended)
        for _, reader, _ in tunnels:
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
    await eventually(lambda: len(main.told("tunnel.closed")) == 4, PATIENCE)
    assert {(each.reason, each.bytes_up, each.bytes_down) for each in main.told("tunnel.closed")} == {("revoked", 5, 5)}
    assert [each.code for each in main.told("tunnel.refused")] == ["too_many_tunnels"]
    assert await asyncio.wait_for(main.workers.drain(0.1), PATIENCE) == 1
    assert main.told("tunnel.closed")[-1].reason == "gateway_stopped"


async def test_draining_waits_for_tunnels_but_not_for_those_who_ask_nothing(start_workers: Any) -> None:
    main = await start_workers(1)
    _, _, writer = await main.tunnel()
    silent, _ = await main.connect()
    draining = asyncio.create_task(main.workers.drain(3_600))
    await asyncio.sleep(0)
    assert not draining.done()
    writer.write_eof()
    assert await asyncio.wait_for(draining, PATIENCE) == 0
    with contextlib.suppress(ConnectionError):  # it leaves without a word, or is cut before it was heard of
        assert await silent.read() == b""
    assert [each.reason for each in main.told("tunnel.closed")] == ["done"]


async def test_a_killed_worker_is_replaced_and_its_tunnels_are_told(start_workers: Any, eventually: Any) -> None:
    main = await start_workers(1)
    _, reader, _ = await main.tunnel()
    await main.workers.count()
    before = main.pids
    os.kill(before[0], signal.SIGKILL)
    await eventually(lambda: main.workers.workers_lost, PATIENCE)
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    await eventually(lambda: main.pids, PATIENCE)
    answer, *_ = await main.tunnel()  # it waits in the channel until the next worker has begun
    assert isinstance(answer, Accepted)
    assert main.pids != before
    (lost,) = main.told("tunnel.closed")
    assert (lost.reason, lost.session, lost.resource, lost.bytes_up) == ("worker_lost", ALICE, "wiki", 5)


async def test_workers_leave_signals_to_the_main_process(start_workers: Any) -> None:
    main = await start_workers(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(main.pids[0], number)
    answer, *_ = await main.tunnel()
    assert isinstance(answer, Accepted)
    assert os.getsid(main.pids[0]) != os.getsid(0)


async def test_a_worker_that_does_not_confirm_a_cut_is_killed(
    start_workers: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    """What was taken away ends, whatever else that ends."""
    main = await start_workers(1)
    _, reader, _ = await main.tunnel()
    monkeypatch.setattr(limits, "CUT_CERTAIN", 0.2)
    os.kill(main.pids[0], signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(main.workers.cut(Cut(ALICE, "revoked", "gone")))
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
    await eventually(lambda: main.told("tunnel.closed"), PATIENCE)
    assert main.told("tunnel.closed")[0].reason == "worker_lost"


async def test_a_worker_that_says_nothing_of_its_connections_is_replaced(
    start_workers: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    main = await start_workers(1)
    before = main.pids
    os.kill(before[0], signal.SIGSTOP)
    await eventually(lambda: psutil.Process(before[0]).status() == psutil.STATUS_STOPPED, PATIENCE)
    monkeypatch.setattr(limits, "WORKER_SILENCE", -1.0)  # overdue at once
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):  # the first is what it owes a word for; the second finds that out
            theirs = socket.create_connection(listener.getsockname())
            main.workers.accept(theirs, Source(seen_address("127.0.0.1"), 1, frozenset(), frozenset()))
            await asyncio.sleep(0)
    assert main.workers.turned_away == 1
    await eventually(lambda: main.pids and main.pids != before, PATIENCE)
    monkeypatch.undo()
    answer, *_ = await main.tunnel()
    assert isinstance(answer, Accepted)


async def test_a_worker_that_lies_is_killed(start_workers: Any, eventually: Any) -> None:
    main = await start_workers(1)
    ((worker, _),) = main.workers.workers
    with pytest.raises(Breach):
        main.workers.heard(worker, Asks(uuid4(), "wiki", 80, "tcp"))
    worker._channel._end("it lied")  # as the channel does with what a handler raises
    await eventually(lambda: main.workers.workers_lost == 1, PATIENCE)


def test_a_worker_is_nothing_to_start_by_hand(tmp_path: Path) -> None:
    for arguments in ([], [str(tmp_path)], [str(tmp_path), "99"], [str(tmp_path), "x"], [str(tmp_path), "0"]):
        done = subprocess.run(
            [sys.executable, "-m", "gateway.workers.process", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "a worker is started by the gateway itself; use: gloam-gateway run\n"


# The channel


class Heard:
    """One end of a channel, and everything that came out of it."""

    def __init__(self, sock: socket.socket, reads: Any = to_worker, with_socket: Any = Take) -> None:
        self.messages: list[Any] = []
        self.sockets: list[Any] = []
        self.ended: list[str] = []
        self.channel = Channel(sock, reads, self.on_message, self.ended.append, with_socket=with_socket)

    def on_message(self, message: Any, sock: Any) -> None:
        self.messages.append(message)
        if sock is not None:
            self.sockets.append(socket.socket(fileno=sock.detach()))


async def test_messages_and_sockets_arrive_in_order_however_many(eventually: Any) -> None:
    ours, theirs = pair()
    heard, speaker = Heard(theirs), Heard(ours, to_main, None)
    names = [uuid4() for _ in range(3_000)]
    kept, sent = socket.socketpair()
    for number, name in enumerate(names):
        with_socket = os.dup(sent.fileno()) if number % 10 == 0 else None
        speaker.channel.send(
            Take(name) if with_socket is not None else wordy(name),
            None if with_socket is None else socket.socket(fileno=with_socket),
        )
    await eventually(lambda: len(heard.messages) == len(names), PATIENCE)
    assert [each.tunnel for each in heard.messages] == names
    assert len(heard.sockets) == 300
    assert speaker.channel.waiting == 0
    for each in heard.sockets:
        each.send(b"x")
        assert kept.recv(1) == b"x"
        each.close()
    for each in (heard.channel, speaker.channel, kept, sent):
        each.close()
    assert (heard.ended, speaker.ended) == ([], [])


def wordy(name: Any) -> Message:
    return Refusal_(name, Refusal(403, "denied", "no_grant", "s" * 1_000, "f" * 1_000))


TAKE = encode(Take(UUID(int=1)))
CUT = encode(CutTunnels(1, (), "x"))


def said(*message: object) -> bytes:
    """A packet with one message of any form."""
    return packet_of([msgspec.msgpack.encode(message)])


@pytest.mark.parametrize(
    ("packet", "sockets"),
    [
        (b"x", 0),
        (b"\x80", 0),
        (TAKE, 1),
        (said("unknown"), 0),
        (said("ready"), 0),
        (said("cut", 1, [], "x", 1), 0),
        (said("cut", 1, []), 0),
        (said("cut", -1, [], "x"), 0),
        (said("cut", 1, [], "x\n"), 0),
        (said("cut", "1", [], "x"), 0),
        (packet_of([CUT]) + b"\x90", 0),
        (packet_of([CUT])[:-1], 0),
        (packet_of([TAKE]), 0),
        (packet_of([TAKE]), 2),
        (packet_of([]), 1),
        (packet_of([CUT] * 9_000), 0),
        (packet_of([]), 65),
    ],
)
async def test_what_breaks_the_rules_ends_the_conversation(packet: bytes, sockets: int, eventually: Any) -> None:
    ours, theirs = pair()
    heard = Heard(theirs)
    socket.send_fds(ours, [packet], [ours.fileno()] * sockets)
    await eventually(lambda: heard.ended, PATIENCE)
    assert heard.messages == []
    assert len(heard.ended) == 1
    heard.channel.close()
    ours.close()


async def test_the_main_process_takes_no_sockets(eventually: Any) -> None:
    ours, theirs = pair()
    heard = Heard(theirs, to_main, None)
    socket.send_fds(ours, [packet_of([encode(Ready())])], [ours.fileno()])
    await eventually(lambda: heard.ended, PATIENCE)
    assert heard.messages == []
    heard.channel.close()
    ours.close()


async def test_the_last_words_are_heard_before_the_end(eventually: Any) -> None:
    ours, theirs = pair()
    heard = Heard(theirs, to_main, None)
    heard.channel.send(Ended(uuid4()))
    await asyncio.sleep(0)
    ours.send(packet_of([encode(Ready())]))
    ours.close()  # with words of the other side unread
    await eventually(lambda: heard.ended, PATIENCE)
    assert heard.messages == [Ready()]
    heard.channel.close()


words = st.sampled_from(["take", "permitted", "refused", "cut", "verified", "asks", "opened", "counted", "x"])


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-1, 2**64 - 1)
            | st.floats()
            | st.text(max_size=20)
            | words
            | st.binary(max_size=16),
            lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=4),
            max_leaves=12,
        ).map(msgspec.msgpack.encode),
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_is_a_list_of_messages_or_the_end(packet: bytes) -> None:
    for reader in (to_main, to_worker):
        try:
            messages = reader.read(packet)
        except ValueError:
            continue
        assert isinstance(messages, list)
        assert all(isinstance(each, Message) for each in messages)
