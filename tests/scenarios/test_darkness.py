"""What a stranger sees: nothing, before, during and after somebody else's session."""

import asyncio
import re
import secrets
import socket
from collections.abc import Callable
from typing import Any

import pytest

from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.processes import finish
from lab.scan import probe_udp
from lab.visitor import fetch

pytestmark = pytest.mark.asyncio(loop_scope="module")

UDP_DATAGRAMS = 10_000


async def nmap(nmap_path: str, host: str, ports: str, *, source: str, udp: bool = False) -> dict[int, str]:
    """Port → state, as nmap tells it from an address that never knocked."""
    kind = "-sU" if udp else "-sS"
    done = await finish(
        [nmap_path, kind, "-Pn", "-n", "-p", ports, "-e", "lo", "-S", source, "--max-retries", "1", host], seconds=60
    )
    assert done.code == 0, done.err
    found = {int(port): state for port, state in re.findall(r"^(\d+)/(?:tcp|udp)\s+(\S+)", done.out, re.MULTILINE)}
    assert found, done.out
    return found


async def test_nmap_finds_nothing_before_during_and_after_a_session(
    make_stage: Any, tool: Callable[[str], str], as_root: None
) -> None:
    """The on-demand cloak; the darker ones are in test_separate_hosts.py."""
    path = tool("nmap")
    async with make_stage(cloak="on-demand") as stage:
        perimeter = stage.perimeter
        hosts = [perimeter.controller_address, perimeter.gateways["edge"]]

        async def scan() -> None:
            for host in hosts:
                states = await nmap(path, host, f"22,80,443,{TLS_PORT},9000-9010", source=perimeter.block.stranger)
                assert states[TLS_PORT] == "closed", (host, states)
                assert "open" not in states.values(), (host, states)

        await scan()
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki")
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: wiki\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        async with asyncio.timeout(60):
            while (await perimeter.gateway_status("edge"))["windows"]:
                pass  # this cloak's port is open for the moment that the connection takes
        await scan()
        writer.close()
        await forward.stop()
        await alice.gloam("logout")
        await scan()


async def test_a_stranger_is_not_let_in_by_somebody_elses_window(shared_stage: Any) -> None:
    """While a window is open for one address, another gets no byte, whatever the cloak."""
    perimeter = shared_stage.perimeter
    alice = await shared_stage.person()
    forward, host, port = await alice.forward("wiki")
    loop = asyncio.get_running_loop()
    got_in = 0
    for _ in range(5):
        visit = asyncio.create_task(fetch(host, port))  # knocks, and so opens a window
        with socket.socket() as stranger:
            stranger.settimeout(0)
            stranger.bind((perimeter.block.stranger, 0))
            try:
                async with asyncio.timeout(0.5):
                    await loop.sock_connect(stranger, (perimeter.gateways["edge"], TLS_PORT))
                    await loop.sock_sendall(stranger, b"\x16\x03\x01\x02\x00")
                    got_in += bool(await loop.sock_recv(stranger, 1))
            except (TimeoutError, ConnectionError):
                pass
        assert (await visit)[0] == 200
    assert got_in == 0
    await forward.stop()


async def test_udp_never_answers(shared_stage: Any) -> None:
    perimeter = shared_stage.perimeter
    for host in (perimeter.controller_address, perimeter.gateways["edge"]):
        assert await probe_udp(host, KNOCK_PORT, source=perimeter.block.stranger, count=UDP_DATAGRAMS) == 0
    status = await perimeter.gateway_status("edge")
    assert sum(count for reason, count in status["counters"].items() if reason.startswith("dropped")) > 0


async def test_nmap_gets_no_udp_answer(shared_stage: Any, tool: Callable[[str], str], as_root: None) -> None:
    perimeter = shared_stage.perimeter
    for host in (perimeter.controller_address, perimeter.gateways["edge"]):
        states = await nmap(tool("nmap"), host, str(KNOCK_PORT), source=perimeter.block.stranger, udp=True)
        assert states == {KNOCK_PORT: "open|filtered"}


async def test_garbage_costs_no_memory_and_the_perimeter_works_on(shared_stage: Any) -> None:
    """Random datagrams of every length, the length of real knocks among them; then an ordinary visit."""
    perimeter = shared_stage.perimeter
    alice = await shared_stage.person()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
        garbage.bind((perimeter.block.stranger, 0))
        for size in range(300):
            for _ in range(20):
                garbage.sendto(secrets.token_bytes(size), (perimeter.gateways["edge"], KNOCK_PORT))
    forward, host, port = await alice.forward("wiki")
    assert (await fetch(host, port))[0] == 200
    await forward.stop()
    log = perimeter.processes["gateway-edge"].log.read_text()
    assert "Traceback" not in log
