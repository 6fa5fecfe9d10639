"""Many tunnels for a long time: `python -m lab.soak [--tunnels N] [--seconds S]`, which `make soak` runs.

A perimeter of real processes, one person, and this process as that person's client (gloam's own library): so many
tunnels at once, each of which carries random bytes both ways, of random sizes, is half-closed by whichever end is done
first, and makes way for the next. Some are left in the middle. It fails if one byte is wrong, if an end is missed, or
if the gateway's memory does not stay level after the first quarter.
"""

import argparse
import asyncio
import json
import math
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import psutil

from client.agent.messages import RouteAnswer
from client.dial import CannotReach
from client.reach import find_way
from client.session import Target
from client.state import ClientState
from client.tunnel import Tunnels
from lab.perimeter import Perimeter
from lab.processes import Process
from lab.talk import End, Stream

NAME, PORT, PLACE = "talk", 7100, 210
LARGEST = 1 << 23
LONGEST = 60.0
"""Seconds of a talk, at most: so many stand at once although opening them takes its time."""
OPENING = 16
"""Tunnels being opened at a time: a handshake has a deadline, and everything here shares the cores."""
LEFT = 0.1
"""So many talks are left in the middle: what is broken must never look whole."""
LEVEL = 1.1
"""Memory of the last quarter beside that of the second."""
SLACK = 8 << 20
"""And so many bytes more: the allocator's grain."""


@dataclass
class Report:
    """What happened, from both ends."""

    tunnels: int
    seconds: float
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("whole", "left", "broken", "wrong"), 0))
    hidden: dict[str, int] = field(default_factory=dict)
    not_opened: int = 0
    last_not_opened: str = ""
    up: int = 0
    down: int = 0
    most_at_once: int = 0
    gateway: dict[str, int] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def judge(self) -> "Report":
        """Says what is wrong, if anything is."""
        if self.outcomes["wrong"] or self.outcomes["broken"] or self.hidden.get("wrong", 1):
            self.problems.append(f"not every byte was right: {dict(self.outcomes)}, hidden end {self.hidden}")
        expected = {"whole": self.outcomes["whole"], "broken": self.outcomes["left"], "wrong": 0}
        if self.hidden != expected:
            self.problems.append(f"the hidden end saw {self.hidden}, not {expected}")
        if not self.outcomes["whole"]:
            self.problems.append("nothing was carried")
        quarter = len(self.memory) // 4
        if quarter:
            before = sorted(self.memory[quarter : 2 * quarter])[quarter // 2]
            after = sorted(self.memory[-quarter:])[quarter // 2]
            if after > before * LEVEL + SLACK:
                self.problems.append(f"memory went from {before >> 20} to {after >> 20} MiB")
        return self


async def soak(tunnels: int, seconds: float, tell: Callable[[str], None]) -> Report:
    """One run. Raises LabError if the perimeter does not stand."""
    report = Report(tunnels, seconds)
    async with Perimeter() as perimeter:
        await perimeter.start_controller()
        await perimeter.add_gateway("edge", start=False)
        gateway = await perimeter.start_gateway("edge", GLOAM_MAX_TUNNELS_PER_SESSION=str(2 * tunnels))
        address = f"{perimeter.block.address(PLACE)}:{PORT}"
        hidden = await Process.start(
            "talk", [sys.executable, "-m", "lab.talk", address], log=perimeter.directory / "talk.log"
        )
        try:
            await hidden.ready()
            await perimeter.add_resource(NAME, gateways=["edge"], target=address, port=PORT)
            await perimeter.add_user("ada")
            await perimeter.admin_json("grant", "add", "--user", "ada", "--resource", NAME)
            client = await perimeter.add_client("ada")
            await client.login("ada")
            await _run(ClientState(client.state), psutil.Process(gateway.pid), report, tell)
            report.gateway = (await perimeter.gateway_status("edge"))["counters"]
            hidden.send(signal.SIGTERM)
            said = await hidden.said("talked", 60)
            report.hidden = dict(zip(("whole", "broken", "wrong"), map(int, said.split()[1:]), strict=True))
        finally:
            await hidden.stop()
    return report.judge()


async def _run(state: ClientState, gateway: psutil.Process, report: Report, tell: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    visits = _Visits(state, await find_way(state, Target(NAME)), report, loop.time() + report.seconds)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(gateway, visits, report, tell))
        async with asyncio.TaskGroup() as visitors:
            for number in range(report.tunnels):
                visitors.create_task(visits.go_on(random.Random(number)))  # noqa: S311 - to be repeatable
        watching.cancel()


class _Visits:
    """The visitor's side of everything."""

    def __init__(self, state: ClientState, way: RouteAnswer, report: Report, until: float) -> None:
        self._tunnels = Tunnels(state, state.profile())
        self._state = state
        self._way = way
        self._report = report
        self._until = until
        self._opening = asyncio.Semaphore(OPENING)
        self.now = 0

    async def go_on(self, chance: random.Random) -> None:
        """One tunnel after the other, until it is time."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            async with self._opening:
                try:
                    tunnel = await self._tunnels.open(self._way)
                except CannotReach as error:  # a machine that does too much else; it is counted and told
                    self._report.not_opened += 1
                    self._report.last_not_opened = str(error)
                    continue
            self.now += 1
            self._report.most_at_once = max(self._report.most_at_once, self.now)
            says, hears = _stream(chance), _stream(chance)
            leaves = chance.randrange(hears.count + 1) if chance.random() < LEFT else None
            longest = min(LONGEST, self._report.seconds / 2)
            end = End(says, hears, seconds=chance.random() * longest, leaves_at=leaves)
            end.begin(tunnel.transport)
            outcome = await end.over
            self.now -= 1
            self._report.outcomes[outcome] += 1
            if outcome == "whole":
                self._report.up += says.count
                self._report.down += hears.count


def _stream(chance: random.Random) -> Stream:
    """As many small ones as large ones, by the power of ten; now and then nothing at all."""
    count = int(math.exp(chance.random() * math.log(LARGEST))) - 1
    return Stream(chance.randrange(1 << 20), count)


async def _watch(gateway: psutil.Process, visits: _Visits, report: Report, tell: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(1)
        family = [gateway, *gateway.children(recursive=True)]
        report.memory.append(sum(each.memory_info().rss for each in family))
        if len(report.memory) % 10 == 0:
            done = sum(report.outcomes.values())
            carried = (report.up + report.down) / 1e9
            tell(
                f"{len(report.memory):4} s  {visits.now} tunnels now, {done} talks done, {carried:.2f} GB,"
                f" gateway {report.memory[-1] >> 20} MiB"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m lab.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--tunnels", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    import uvloop

    report = uvloop.run(soak(options.tunnels, options.seconds, lambda line: print(line, flush=True)))  # noqa: T201
    print(json.dumps(asdict(report)))  # noqa: T201 - the report
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
