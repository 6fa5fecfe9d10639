"""`gloam forward`, `connect` and `knock` as processes, against a perimeter of real sockets in this one."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from client.listen import exposed
from console.address import HostPort
from tests.client.commands import Gloam
from tests.client.perimeter import Perimeter
from wire.messages import Renew, Revoked


async def _forward(gloam: Gloam, *arguments: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    process = await gloam.start("forward", "wiki", "--json", *arguments)
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, (await process.communicate())[1]
    return process, json.loads(line)


async def _exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, received = await asyncio.gather(send(), reader.read())
    writer.close()
    await writer.wait_closed()
    return received


async def test_forward_carries_many_connections_and_large_ones(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    process, listening = await _forward(gloam)
    assert (listening["resource"], listening["resource_port"]) == ("wiki", 80)
    assert listening["listen"] == f"127.0.0.1:{listening['port']}"
    many = await asyncio.gather(*(_exchange(listening["port"], b"n%d" % number) for number in range(40)))
    assert many == [b"N%d<END>" % number for number in range(40)]
    large = os.urandom(3_000_000).replace(b"<", b"_")
    assert await _exchange(listening["port"], large) == large.upper() + b"<END>"
    process.terminate()
    assert await process.wait() == 0
    assert perimeter.gateways[0].peers[0].kind == "session"


async def test_a_port_in_use_is_an_error_with_a_fix(gloam: Gloam) -> None:
    await gloam.log_in()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await gloam("forward", "wiki", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 1
    assert "--listen" in done.err


async def test_a_forward_outlives_renewals_and_ends_connections_with_the_session(
    gloam: Gloam, perimeter: Perimeter
) -> None:
    from datetime import timedelta

    perimeter.controller.answers.lifetime = timedelta(seconds=4)
    await gloam.log_in()
    process, listening = await _forward(gloam)
    await perimeter.controller.wait_for(Renew, 1)
    perimeter.controller.answers.lifetime = timedelta(minutes=5)
    await perimeter.controller.wait_for(Renew, 2)
    assert await _exchange(listening["port"], b"still") == b"STILL<END>"

    await perimeter.controller.tell(Revoked(code="admin", sentence="revoked by root", fix="ask root"))
    while (await gloam("status", "--json")).json["logged_in"]:
        pass
    with pytest.raises(ConnectionResetError):
        await _exchange(listening["port"], b"gone")
    assert process.stderr is not None
    assert b"revoked by root; ask root" in await process.stderr.readline()
    status = await gloam("status")
    assert status.code == 0
    assert "revoked by root" in status.out
    assert (await gloam("connect", "wiki")).code == 4


async def _piped(gloam: Gloam, perimeter: Perimeter) -> asyncio.subprocess.Process:
    """A running `gloam connect wiki` that has carried a byte each way."""
    await gloam.log_in()
    piped = await gloam.start("connect", "wiki")
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(b"y")
    assert await piped.stdout.read(1) == b"Y"
    return piped


def _cut(perimeter: Perimeter) -> None:
    for relay in perimeter.gateways[0].relays:
        relay.cut("revoked")


async def test_a_cut_tunnel_is_a_reset_and_a_failure(gloam: Gloam, perimeter: Perimeter) -> None:
    piped = await _piped(gloam, perimeter)
    _process, listening = await _forward(gloam)
    reader, writer = await asyncio.open_connection("127.0.0.1", listening["port"])
    writer.write(b"x")
    assert await reader.read(1) == b"X"
    _cut(perimeter)
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    out, said = await piped.communicate()
    assert (piped.returncode, out) == (1, b"")
    assert said == b"gloam: the tunnel to wiki broke off; try again; gloam status says if something is wrong\n"


async def test_a_tunnel_cut_for_a_reason_says_it_and_is_not_opened_again(gloam: Gloam, perimeter: Perimeter) -> None:
    piped = await _piped(gloam, perimeter)
    stale = {"code": "mfa_stale", "sentence": "your proof is too old", "fix": "prove it again"}
    perimeter.controller.answers.explained["wiki"] = perimeter.wiki(allowed=False, **stale)
    _cut(perimeter)
    out, said = await piped.communicate()
    assert (piped.returncode, out) == (4, b"")
    assert said == b"gloam: the tunnel to wiki was cut: your proof is too old; prove it again\n"
    assert len(perimeter.gateways[0].relays) == 1


async def test_a_tunnel_cut_before_the_agent_knows_that_the_session_is_over_says_why(
    gloam: Gloam, perimeter: Perimeter
) -> None:
    piped = await _piped(gloam, perimeter)
    perimeter.controller.answers.revoked_meanwhile = Revoked(code="revoked", sentence="revoked by root")
    _cut(perimeter)
    out, said = await piped.communicate()
    assert (piped.returncode, out) == (4, b"")
    assert said == b"gloam: the tunnel to wiki was cut: your session has ended: revoked by root; log in again\n"


async def test_connect_ends_quietly_when_the_reader_of_its_output_has_gone(gloam: Gloam, perimeter: Perimeter) -> None:
    piped = await _piped(gloam, perimeter)
    assert piped.stdin is not None
    assert piped.stderr is not None
    transport = piped._transport.get_pipe_transport(1)  # type: ignore[attr-defined]  # asyncio gives no other way
    transport.close()
    with contextlib.suppress(ConnectionError):
        while piped.returncode is None:
            piped.stdin.write(b"z" * 4_096)
            await piped.stdin.drain()
    assert (await piped.wait(), await piped.stderr.read()) == (141, b"")


@pytest.fixture
def full() -> Iterator[IO[bytes]]:
    """A device that takes nothing more."""
    with Path("/dev/full").open("wb") as opened:
        yield opened


async def test_connect_says_that_its_output_cannot_be_written(gloam: Gloam, full: IO[bytes]) -> None:
    await gloam.log_in()
    piped = await gloam.start("connect", "wiki", stdout=full)
    _, said = await piped.communicate(b"x")
    assert piped.returncode == 1
    assert said.startswith(b"gloam: standard output: No space left on device; ")
    assert len(said.splitlines()) == 1


async def test_connect_half_closes_both_ways(gloam: Gloam, tmp_path: Path) -> None:
    await gloam.log_in()
    piped = await gloam.start("connect", "wiki:80")
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(b"before")
    assert await piped.stdout.readexactly(6) == b"BEFORE"
    piped.stdin.write_eof()
    assert await piped.stdout.read() == b"<END>"
    assert await piped.wait() == 0
    assert (await gloam("connect", "wiki:81")).code == 1


async def test_connect_reads_plain_files(gloam: Gloam, tmp_path: Path) -> None:
    await gloam.log_in()
    data = os.urandom(500_000).lower()
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "client.cli", "connect", "wiki", stdin=stdin, stdout=stdout, env=gloam._environ
        )
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == data.upper() + b"<END>"


async def test_knock_opens_the_door_for_curl(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    knocked = await gloam("knock", "wiki", "--json")
    assert knocked.code == 0, knocked.err
    document = knocked.json
    assert document["proxy"] == f"https://127.0.0.1:{perimeter.gateways[0].door.bound_listen.port}"
    assert document["options"][0] == "--proxytunnel"
    kept = {each.name for each in gloam.directory.iterdir()}
    assert {Path(document[name]).name for name in ("cert", "key", "cacert")} <= kept
    assert perimeter.gateways[0].admission.admitted > 0
    human = await gloam("knock", "wiki")
    assert human.out.startswith("--proxytunnel --proxy https://127.0.0.1:")
    assert human.out.count("\n") == 1


async def _warm(perimeter: Perimeter, count: int) -> None:
    """Waits until the gateway has so many connections that have not been asked."""
    async with asyncio.timeout(30):
        while len(perimeter.gateways[0].silent) < count:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


async def test_a_tunnel_is_opened_on_a_connection_that_is_there(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    gateway = perimeter.gateways[0]
    process, listening = await _forward(gloam, "--warm", "1")
    await _warm(perimeter, 1)
    (warm,) = gateway.silent
    assert await _exchange(listening["port"], b"one") == b"ONE<END>"
    assert warm not in gateway.silent
    await _warm(perimeter, 1)

    gateway.silent.pop().transport.abort()  # as a gateway that restarts
    assert await _exchange(listening["port"], b"two") == b"TWO<END>"
    await _warm(perimeter, 1)

    gateway.deaf = 1  # as behind a network that has forgotten the connection
    assert await _exchange(listening["port"], b"three") == b"THREE<END>"
    assert gateway.deaf == 0
    process.terminate()
    assert await process.wait() == 0
    assert process.stderr is not None
    assert await process.stderr.read() == b""


async def test_none_is_kept_where_none_is_wanted(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    process, listening = await _forward(gloam, "--warm", "0")
    assert await _exchange(listening["port"], b"one") == b"ONE<END>"
    assert (perimeter.gateways[0].silent, len(perimeter.gateways[0].peers)) == ([], 1)
    process.terminate()
    await process.wait()
    done = await gloam("forward", "wiki", "--warm", "9")
    assert (done.code, "--warm" in done.err) == (2, True)


async def test_a_forward_that_others_can_use_says_so(gloam: Gloam) -> None:
    await gloam.log_in()
    process, listening = await _forward(gloam, "--listen", "0.0.0.0:0")
    assert process.stderr is not None
    told = (await process.stderr.readline()).decode()
    assert told == f"gloam: warning: others on the network can use {listening['listen']} to reach wiki as you\n"
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("address", "others"),
    [("127.0.0.1:1", False), ("127.8.8.8:1", False), ("[::1]:1", False), ("0.0.0.0:1", True), ("[::]:1", True)],
)
def test_whether_others_can_use_an_address(address: str, others: object) -> None:
    assert exposed(HostPort.parse(address)) is others
