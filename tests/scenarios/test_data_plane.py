"""What a tunnel carries: every byte, each end's end, a break as a break; and never more in memory than it must."""

import asyncio
import contextlib
import hashlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lab.hidden import BLOCK, RESET_ON_CLOSE
from lab.perimeter import Client
from lab.processes import Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
UNREACHABLE = 3
MUCH = 200 * len(BLOCK)
KERNELS = MUCH // 2
"""More than all socket buffers on the way hold: Linux gives each at most 6 MiB."""
MEMORY = 24 << 20
"""What a process may grow by while it carries MUCH: its buffers are under 1 MiB; the rest is the allocator's."""
KINDS = ("source", "sink", "resetting")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(shared_stage: Any) -> Client:
    """She may reach a resource of each kind."""
    perimeter = shared_stage.perimeter
    await asyncio.gather(*(perimeter.add_resource(kind, gateways=["edge"], kind=kind) for kind in KINDS))
    client: Client = await shared_stage.person("alice")
    grants = (("grant", "add", "--user", "alice", "--resource", kind) for kind in KINDS)
    await asyncio.gather(*(perimeter.admin_json(*grant) for grant in grants))
    return client


@contextlib.asynccontextmanager
async def connection(
    client: Client, resource: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Process]]:
    """A connection through `gloam forward`, and that forward."""
    forward, host, port = await client.forward(resource)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(2 * PATIENCE):
            yield reader, writer, forward
    finally:
        writer.close()
        await forward.stop()


async def tunnels(stage: Any, resource: str) -> list[Any]:
    status = await stage.perimeter.gateway_status("edge")
    return [each for each in status["tunnels"] if each["resource"] == resource]


async def freed(stage: Any, resource: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await tunnels(stage, resource):
            pass


async def closed(stage: Any, resource: str, before: int) -> dict[str, Any]:
    """The report of the tunnel that ended after `before` others of this resource."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while len(events) <= before:
            events = await stage.events("tunnel.closed", resource=resource)
    return events[-1]


async def settled(stage: Any, resource: str, count: str) -> int:
    """The tunnel's count of bytes once it stands still."""
    readings: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while len(set(readings[-3:])) != 1 or len(readings) < 3 or not readings[-1]:
            readings.extend(each[count] for each in await tunnels(stage, resource))
    return readings[-1]


class Memory:
    """How much more memory processes had at their peak than at the beginning."""

    def __init__(self, processes: dict[str, Process]) -> None:
        self._pids = {name: process.pid for name, process in processes.items()}
        for pid in self._pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak starts again from here
        self._before = {name: self._of(pid, "VmRSS") for name, pid in self._pids.items()}

    def growth(self) -> dict[str, int]:
        """Bytes, for each."""
        return {name: self._of(pid, "VmHWM") - self._before[name] for name, pid in self._pids.items()}

    @staticmethod
    def _of(pid: int, field: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


async def test_a_person_who_does_not_read_costs_no_memory(shared_stage: Any, alice: Client) -> None:
    async with connection(alice, "source") as (reader, writer, forward):
        memory = Memory({"gateway": shared_stage.perimeter.processes["gateway-edge"], "forward": forward})
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
        writer.write(b"%d\n" % MUCH)
        waiting = await settled(shared_stage, "source", "bytes_down")
        assert 0 < waiting < KERNELS
        assert all(growth < MEMORY for growth in memory.growth().values()), memory.growth()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for number in range(MUCH // len(BLOCK)):
            assert await reader.readexactly(len(BLOCK)) == BLOCK, f"block {number}"
        assert await reader.read() == b""
        assert all(growth < MEMORY for growth in memory.growth().values()), memory.growth()


async def test_a_resource_that_does_not_read_costs_no_memory(shared_stage: Any, alice: Client) -> None:
    sink = shared_stage.perimeter.processes["resource-sink"]
    async with connection(alice, "sink") as (reader, writer, forward):
        memory = Memory({"gateway": shared_stage.perimeter.processes["gateway-edge"], "forward": forward})
        sink.send(signal.SIGSTOP)  # its kernel still accepts
        try:
            sending = asyncio.create_task(_send(writer, MUCH))
            assert 0 < await settled(shared_stage, "sink", "bytes_up") < KERNELS
            assert not sending.done()
            assert all(growth < MEMORY for growth in memory.growth().values()), memory.growth()
        finally:
            sink.send(signal.SIGCONT)
        await sending
        expected = hashlib.sha256(BLOCK * (MUCH // len(BLOCK))).hexdigest()
        assert await reader.read() == f"{MUCH} {expected}\n".encode()
        assert all(growth < MEMORY for growth in memory.growth().values()), memory.growth()


async def _send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // len(BLOCK)):
        writer.write(BLOCK)
        await writer.drain()
    writer.write_eof()


async def test_the_persons_end_reaches_the_resource_and_its_answer_still_comes(alice: Client) -> None:
    async with connection(alice, "sink") as (reader, writer, _forward):
        writer.write(b"that is all")
        writer.write_eof()
        assert await reader.read() == f"11 {hashlib.sha256(b'that is all').hexdigest()}\n".encode()


async def test_the_resources_end_reaches_the_person_whose_bytes_still_go(shared_stage: Any, alice: Client) -> None:
    async with connection(alice, "source") as (reader, writer, _forward):
        writer.write(b"5\n")
        assert await reader.read() == BLOCK[:5]
        writer.write(BLOCK)
        writer.write_eof()
        source = shared_stage.perimeter.processes["resource-source"]
        whole = hashlib.sha256(b"5\n" + BLOCK).hexdigest()
        assert await source.said(whole, PATIENCE) == f"received {len(BLOCK) + 2} {whole}"


async def test_a_closed_tunnels_bytes_are_recorded_exactly(shared_stage: Any, alice: Client) -> None:
    for resource, up, down in (
        ("source", b"1234567\n", BLOCK + BLOCK[: 1_234_567 - len(BLOCK)]),
        ("echo", BLOCK[:98_765], BLOCK[:98_765]),
    ):
        before = len(await shared_stage.events("tunnel.closed", resource=resource))
        async with connection(alice, resource) as (reader, writer, _forward):
            writer.write(up)
            writer.write_eof()
            assert await reader.read() == down
        event = await closed(shared_stage, resource, before)
        assert (event["bytes_up"], event["bytes_down"], event["code"]) == (len(up), len(down), "done")
        assert (event["user"], event["gateway"]) == ("alice", "edge")


async def test_a_resource_that_resets_is_no_clean_end_to_the_person(shared_stage: Any, alice: Client) -> None:
    before = len(await shared_stage.events("tunnel.closed", resource="resetting"))
    async with connection(alice, "resetting") as (reader, writer, _forward):
        writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await freed(shared_stage, "resetting")
    event = await closed(shared_stage, "resetting", before)
    assert (event["bytes_up"], event["code"]) == (5, "plain_lost")


def reset(writer: asyncio.StreamWriter, forward: Process) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


def kill(writer: asyncio.StreamWriter, forward: Process) -> None:
    forward.send(signal.SIGKILL)


@pytest.mark.parametrize("break_off", [reset, kill])
async def test_a_person_who_breaks_off_is_no_clean_end_to_the_resource(
    shared_stage: Any, alice: Client, break_off: Callable[[asyncio.StreamWriter, Process], None]
) -> None:
    before = len(await shared_stage.events("tunnel.closed", resource="echo"))
    async with connection(alice, "echo") as (reader, writer, forward):
        writer.write(BLOCK[:4_321])
        assert await reader.readexactly(4_321) == BLOCK[:4_321]
        break_off(writer, forward)
        await shared_stage.perimeter.processes["resource-echo"].said("broken after 4321", PATIENCE)
        await freed(shared_stage, "echo")
    event = await closed(shared_stage, "echo", before)
    assert (event["bytes_up"], event["bytes_down"], event["code"]) == (4_321, 4_321, "tls_lost")


@pytest.fixture
def refusing(shared_stage: Any) -> Iterator[str]:
    """A port that is nobody's else, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind((shared_stage.perimeter.block.address(200), 0))
        host, port = taken.getsockname()
        yield f"{host}:{port}"


@pytest.fixture
def silent(shared_stage: Any) -> Iterator[str]:
    """A listener whose queue is full: its kernel drops what comes, as a firewall would."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((shared_stage.perimeter.block.address(201), 0))
        listener.listen(0)
        with contextlib.suppress(TimeoutError):
            while True:
                visitor = stack.enter_context(socket.socket())
                visitor.settimeout(0.5)
                visitor.connect(listener.getsockname())
        host, port = listener.getsockname()
        yield f"{host}:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(shared_stage: Any) -> str:
    """A gateway that is told to give up on a target after a fifth of a second."""
    await shared_stage.perimeter.add_gateway("hasty", start=False)
    await shared_stage.perimeter.start_gateway("hasty", GLOAM_DIAL_TIMEOUT="200ms")
    return "hasty"


MISSING = {
    "refusing": ("refused the connection", (502, "target_refused")),
    "silent": ("did not answer in time", (504, "target_timeout")),
}


@pytest.mark.parametrize("target", MISSING)
async def test_a_target_that_is_not_there_is_named_in_one_line(
    request: pytest.FixtureRequest, shared_stage: Any, alice: Client, hasty: str, target: str
) -> None:
    sentence, reported = MISSING[target]
    stage = shared_stage
    await stage.perimeter.add_resource(target, gateways=[hasty], target=request.getfixturevalue(target))
    await stage.perimeter.admin_json("grant", "add", "--user", "alice", "--resource", target)

    refused = await alice.gloam("connect", target, text="")
    assert (refused.code, refused.out) == (UNREACHABLE, "")
    assert len(refused.err.strip().splitlines()) == 1, refused.err
    assert all(each in refused.err for each in (target, hasty, sentence, "step: resource")), refused.err

    async with connection(alice, target) as (reader, _writer, forward):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert target in await forward.said(sentence, PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while len(events := await stage.events("tunnel.refused", resource=target)) < 2:
            pass
    assert {(event["status"], event["code"]) for event in events} == {reported}
    assert not await stage.events("tunnel.opened", resource=target)
