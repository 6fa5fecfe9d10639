"""Stranger, user, gateway, controller and resource as separate hosts: what the wire tells, whatever happens meanwhile.

The stranger scans every port of the gateway and the controller, TCP and UDP; the user works all the while.
"""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lab.addresses import CONTROLLER, GATEWAYS, KNOCK_PORT, TLS_PORT
from lab.hosts import Hosts
from lab.processes import finish
from tests.scenarios.conftest import Stage
from tests.scenarios.intruder import Watch

QUICKLY = ("-n", "-Pn", "-T5", "--max-retries", "1", "-oG", "-")
DARK = ("controller", "gateway")
TABLES = {"controller": f"gloam-10.77.1.{CONTROLLER}-{TLS_PORT}", "gateway": f"gloam-10.77.1.{GATEWAYS}-{TLS_PORT}"}


@pytest.fixture
def hosts(as_root: None, tool: Callable[[str], str]) -> Iterator[Hosts]:
    for name in ("ip", "nsenter", "unshare", "sysctl", "nmap", "nft", "curl"):
        tool(name)
    with Hosts() as hosts:
        yield hosts


async def scan(hosts: Hosts, *options: str) -> dict[str, dict[int, str]]:
    """Address → port → state, as nmap tells the stranger; ports in the state most of them have are left out."""
    targets = [hosts.address(CONTROLLER), hosts.address(GATEWAYS)]
    done = await finish(hosts.on("stranger", "nmap", *QUICKLY, *options, *targets), seconds=120)
    assert done.code == 0, done.err
    found = {
        host: {int(port): state for port, state in re.findall(r"(\d+)/([^/]+)/", ports)}
        for host, ports in re.findall(r"^Host: (\S+) .*?\tPorts: (.*?)(?:\tIgnored|$)", done.out, re.MULTILINE)
    }
    assert set(found) == set(targets), done.out
    return found


async def finds_nothing(hosts: Hosts, when: str) -> None:
    """Every port, TCP and UDP, of both."""
    await finds_no_tcp(hosts, when)
    for host, ports in (await scan(hosts, "-sU", "-p-")).items():
        assert "open" not in ports.values(), (when, host, ports)
        assert ports[KNOCK_PORT] == "open|filtered", (when, host, "nothing answered")


async def finds_no_tcp(hosts: Hosts, when: str) -> None:
    for host, ports in (await scan(hosts, "-sS", "-p-")).items():
        assert "open" not in ports.values(), (when, host, ports)
        assert ports[TLS_PORT] == "filtered", (when, host)


class Worker:
    """Somebody on the user's host who fetches the wiki over and over; each time it is a new knock and a new tunnel."""

    def __init__(self, hosts: Hosts, port: int) -> None:
        self._fetch = hosts.on("user", "curl", "-s", "--max-time", "30", f"http://127.0.0.1:{port}/")
        self.pages = self.failures = 0

    async def fetch(self) -> bool:
        done = await finish(self._fetch, seconds=60)
        came = "The wiki nobody can see" in done.out
        self.pages += came
        self.failures += not came
        return came

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Works on inside the block; every page came."""
        stop = asyncio.Event()

        async def work() -> None:
            while not stop.is_set():
                await self.fetch()

        before, task = self.pages, asyncio.create_task(work())
        try:
            yield
        finally:
            stop.set()
            await task
        assert self.pages > before
        assert self.failures == 0


async def somebody_works(hosts: Hosts, stage: Stage) -> tuple[Any, Any, Worker]:
    alice = await stage.person()
    forward, _, port = await alice.forward("wiki")
    worker = Worker(hosts, port)
    assert await worker.fetch()
    return alice, forward, worker


@pytest.mark.timeout(600)  # nine scans of every port: seconds each, minutes on a machine that has other work
async def test_a_full_scan_finds_nothing_with_the_nftables_cloak(make_stage: Any, hosts: Hosts) -> None:
    async with make_stage(cloak="nftables", block=hosts) as stage:
        perimeter = stage.perimeter
        assert (await perimeter.gateway_status("edge"))["cloak"]["name"] == "nftables"
        assert (await perimeter.admin_json("status"))["cloak"] == "nftables"
        await finds_nothing(hosts, "before")
        alice, forward, worker = await somebody_works(hosts, stage)
        async with worker.working():
            await finds_nothing(hosts, "during")
            for probe in ("-sA", "-sF", "-sN", "-sX", "-sM"):
                for ports in (await scan(hosts, probe, "-p", f"{TLS_PORT},22,80")).values():
                    assert ports[TLS_PORT] in {"filtered", "open|filtered"}, (probe, "it did not answer")
        await whoever_flushes_the_ruleset_is_noticed(hosts, stage, worker)
        await a_killed_gateway_stays_dark_and_comes_back(hosts, stage, worker)
        await forward.stop()
        await alice.gloam("logout")
        await finds_nothing(hosts, "after")
        await a_normal_stop_leaves_no_table(hosts, stage)


async def whoever_flushes_the_ruleset_is_noticed(hosts: Hosts, stage: Stage, worker: Worker) -> None:
    """On the gateway and on the controller: closed again, counted, said in `status`, audited; and work goes on."""
    for host, table in TABLES.items():
        hosts.run(host, "nft", "flush", "ruleset")
        where = "gateway/edge" if host == "gateway" else "controller/main"
        async with Watch.on(stage.perimeter, past=1000) as watch:
            event = await watch.until("cloak.trouble", where=where, code="mended")
        assert f"the nftables table {table} was changed or removed by somebody else" in event["detail"]
        assert "hook input" in hosts.run(host, "nft", "list", "table", "inet", table)
    edge = await stage.perimeter.gateway_status("edge")
    assert edge["cloak"]["trouble"]["code"] == "mended"
    assert edge["counters"]["cloak_mended"] >= 1
    status = await stage.perimeter.admin_json("status")
    assert status["cloak_trouble"]["code"] == "mended"
    assert "trouble with the cloak" in stage.perimeter.processes["gateway-edge"].log.read_text()
    async with worker.working():
        await finds_no_tcp(hosts, "after a flush")


async def a_killed_gateway_stays_dark_and_comes_back(hosts: Hosts, stage: Stage, worker: Worker) -> None:
    perimeter = stage.perimeter
    await perimeter.processes["gateway-edge"].kill()
    assert TABLES["gateway"] in hosts.run("gateway", "nft", "list", "tables")
    await finds_no_tcp(hosts, "while the gateway is dead")
    await perimeter.start_gateway("edge")
    deadline = time.monotonic() + 60
    while not await worker.fetch():  # the client finds out by itself that its gateway is back
        assert time.monotonic() < deadline
    worker.failures = 0
    async with worker.working():
        await finds_no_tcp(hosts, "after a restart")


async def a_normal_stop_leaves_no_table(hosts: Hosts, stage: Stage) -> None:
    for name in ("gateway-edge", "controller"):
        process = stage.perimeter.processes[name]
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    for host in TABLES:
        assert hosts.run(host, "nft", "list", "ruleset") == ""


async def test_a_full_tcp_scan_finds_nothing_with_the_socket_filter(make_stage: Any, hosts: Hosts) -> None:
    async with make_stage(cloak="socket-filter", block=hosts) as stage:
        await finds_no_tcp(hosts, "before")
        alice, forward, worker = await somebody_works(hosts, stage)
        async with worker.working():
            await finds_no_tcp(hosts, "during")
        await forward.stop()
        await alice.gloam("logout")
        await finds_no_tcp(hosts, "after")
