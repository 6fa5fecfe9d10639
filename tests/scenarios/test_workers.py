"""Two processes carry the tunnels and one decides: limits and cuts reach both, and a killed one takes only its own."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil

from lab.addresses import TLS_PORT
from lab.perimeter import Client
from lab.scan import PortState, scan_tcp

PATIENCE = 30
MOST = 8
WORKERS = {"GLOAM_WORKERS": "2", "GLOAM_MAX_TUNNELS_PER_SESSION": str(MOST)}


class Caller:
    """A connection that sends and hears its own bytes again without a pause, until it is broken."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.talking: asyncio.Task[None]

    @classmethod
    async def through(cls, host: str, port: int) -> "Caller":
        made = cls()
        made.talking = asyncio.create_task(made._talk(host, port))
        heard = asyncio.create_task(made.heard.wait())
        await asyncio.wait({heard, made.talking}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        return made

    async def _talk(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        number = 0
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                number += 1
                said = b"%d %s\n" % (number, bytes(4_000))
                writer.write(said)
                assert await reader.readexactly(len(said)) == said
                self.heard.set()
        writer.close()

    async def hears(self) -> None:
        """One more answer, from now on."""
        self.heard.clear()
        await asyncio.wait_for(self.heard.wait(), PATIENCE)

    @property
    def broken(self) -> bool:
        return self.talking.done()


@contextlib.asynccontextmanager
async def calling(client: Client, count: int) -> AsyncIterator[tuple[list[Caller], str, int]]:
    """So many callers through one `gloam forward`, each on a connection of its own: a warm one would be where the
    gateway put it before, and who is where is what is looked at."""
    forward, host, port = await client.forward("echo", "--warm", "0")
    callers = [await Caller.through(host, port) for _ in range(count)]
    yield callers, host, port
    for each in callers:
        each.talking.cancel()
    await forward.stop()


async def status_when(stage: Any, condition: Callable[[Any], object]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not condition(status := await stage.perimeter.gateway_status("edge")):
            pass
    return status


async def gets_through(host: str, port: int) -> Caller:
    """A new caller; whoever met the dying worker on the way calls again, as a person would."""
    async with asyncio.timeout(PATIENCE):
        while not (caller := await Caller.through(host, port)).heard.is_set():
            pass
    return caller


@contextlib.asynccontextmanager
async def scanned(stage: Any) -> AsyncIterator[list[PortState]]:
    """What a stranger's scans find at the tunnel port, one after the other, all the time."""
    found: list[PortState] = []

    async def scan() -> None:
        while True:
            found.append(await scan_once(stage))

    scanning = asyncio.create_task(scan())
    yield found
    scanning.cancel()


async def scan_once(stage: Any) -> PortState:
    host, stranger = stage.perimeter.gateways["edge"], stage.perimeter.block.stranger
    return (await scan_tcp(host, [TLS_PORT], source=stranger))[TLS_PORT]


async def test_a_worker_killed_under_load_is_replaced_and_the_others_never_notice(
    make_stage: Any, as_root: None
) -> None:
    async with make_stage(cloak="socket-filter", gateway_settings=WORKERS) as stage:
        perimeter = stage.perimeter
        alice = await stage.person()
        async with calling(alice, MOST) as (callers, host, port):
            before = await status_when(stage, lambda status: len(status["tunnels"]) == MOST)
            shares = Counter(each["worker"] for each in before["tunnels"])
            assert set(shares) == {each["pid"] for each in before["workers"]}
            assert len(shares) == 2

            one_more = await Caller.through(host, port)  # her share counts over both
            assert one_more.broken
            assert not one_more.heard.is_set()

            victim = before["tunnels"][0]["worker"]
            async with scanned(stage) as found:
                os.kill(victim, signal.SIGKILL)
                async with asyncio.timeout(PATIENCE):
                    while (broken := sum(each.broken for each in callers)) < shares[victim]:
                        talking = [each.talking for each in callers if not each.broken]
                        await asyncio.wait(talking, return_when=asyncio.FIRST_COMPLETED)
                newcomer = await gets_through(host, port)
                after = await status_when(
                    stage, lambda status: len([each for each in status["workers"] if each["ready"]]) == 2
                )
                found.append(await scan_once(stage))
            assert set(found) == {PortState.FILTERED}
            living = [each for each in callers if not each.broken]
            assert (broken, len(living)) == (shares[victim], MOST - shares[victim])
            for each in [*living, newcomer]:
                await each.hears()
            assert victim not in {each["pid"] for each in after["workers"]}
            assert after["counters"]["workers_lost"] == 1

            lost: list[Any] = []
            async with asyncio.timeout(PATIENCE):
                while len(lost) < shares[victim]:
                    lost = await stage.events("tunnel.closed", code="worker_lost")
            assert len(lost) == shares[victim]

            more = [await gets_through(host, port) for _ in range(shares[victim] - 1)]
            again = await status_when(stage, lambda status: len(status["tunnels"]) == MOST)
            assert len({each["worker"] for each in again["tunnels"]}) == 2
            await perimeter.admin_json("session", "revoke", "--user", alice.name)
            ended = asyncio.gather(*(each.talking for each in [*callers, newcomer, *more]))
            await asyncio.wait_for(ended, PATIENCE)
            assert (await perimeter.gateway_status("edge"))["tunnels"] == []
        workers = [psutil.Process(each["pid"]) for each in again["workers"]]
        await perimeter.processes["gateway-edge"].kill()
        gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, PATIENCE)
        assert (len(gone), alive) == (2, [])
