"""`gloam demo`: the whole perimeter on this machine, step by step, out of real processes.

Every line was measured or read from the processes just then; a step that does not turn out as it should ends the demo
with exit code 1. It needs no root: without, the cloak is `on-demand`, and the scans say `closed` instead of `filtered`.
"""

import asyncio
import json as json_module
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

import typer

from console.errors import CommandError, ExitCode
from console.output import Output
from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.perimeter import Client, Perimeter
from lab.processes import LabError, Process
from lab.scan import PortState, probe_udp, scan_tcp
from lab.visitor import Cut, fetch, hold_open

STRANGER_PORTS = [*range(8_400, 8_500), 22, 80, 443, 9_000]
RANDOM_DATAGRAMS = 200
SHOWN = ("user", "resource", "answer", "code", "target", "group", "bytes_up", "bytes_down", "actor", "detail")

Facts = Callable[[str, str], None]
"""`fact(what, how)`: what was seen, for the step that is being told."""


@dataclass
class Story:
    """The perimeter and what one step leaves to the next."""

    perimeter: Perimeter
    alice: Client | None = None
    forward: Process | None = None
    held: asyncio.Task[Cut] | None = field(default=None, repr=False)


async def set_the_stage(story: Story, fact: Facts) -> None:
    """A controller and a gateway start, dark."""
    perimeter = story.perimeter
    names = ("wiki", "payroll")
    hidden = asyncio.gather(*(perimeter.start_hidden(name) for name in names))
    _, targets = await asyncio.gather(perimeter.start_controller(), hidden)
    resources = dict(zip(names, targets, strict=True))
    await asyncio.gather(_gateway_and_resources(perimeter, resources), _people(perimeter))
    await perimeter.admin_json("grant", "add", "--group", "staff", "--resource", "wiki")
    cloak = (await perimeter.gateway_status("edge"))["cloak"]
    fact("processes", ", ".join(f"{name} ({process.pid})" for name, process in perimeter.processes.items()))
    fact("cloak", f"{cloak['name']} ({cloak['why']})")
    fact("policy", "group staff may reach wiki; nobody may reach payroll")


async def _gateway_and_resources(perimeter: Perimeter, targets: Mapping[str, str]) -> None:
    await perimeter.add_gateway("edge", start=False)
    adding = [perimeter.add_resource(name, gateways=["edge"], target=target) for name, target in targets.items()]
    await asyncio.gather(perimeter.start_gateway("edge"), *adding)


async def _people(perimeter: Perimeter) -> None:
    await perimeter.admin_json("group", "add", "staff")
    await perimeter.add_user("alice", groups=["staff"])


async def scan(story: Story, fact: Facts) -> None:
    """A stranger scans."""
    perimeter = story.perimeter
    hosts = {"controller": perimeter.controller_address, **{f"gateway {n}": a for n, a in perimeter.gateways.items()}}
    await asyncio.gather(*(_scan_one(perimeter.block.stranger, name, host, fact) for name, host in hosts.items()))


async def _scan_one(stranger: str, name: str, host: str, fact: Facts) -> None:
    states, answers = await asyncio.gather(
        scan_tcp(host, STRANGER_PORTS, source=stranger),
        probe_udp(host, KNOCK_PORT, source=stranger, count=RANDOM_DATAGRAMS),
    )
    opened = [port for port, state in states.items() if state is PortState.OPEN]
    _insist(not opened and not answers, f"a scan of the {name} finds nothing (open: {opened}, answers: {answers})")
    fact(
        f"{name} {host}",
        f"{len(states)} TCP ports, {len(opened)} open, {TLS_PORT} is {states[TLS_PORT]}; "
        f"{RANDOM_DATAGRAMS} random datagrams, {answers} answers",
    )


async def enrol_and_log_in(story: Story, fact: Facts) -> None:
    """Alice enrols her laptop and logs in with password and TOTP."""
    story.alice = await story.perimeter.add_client("alice")
    fact("enrolled", "key made on the laptop, certificate by invite, which is spent")
    session = await story.alice.login("alice")
    fact("logged in", f"session certificate until {session['valid_until']}, renewed by the agent in the background")
    fact("may reach", ", ".join(each["name"] for each in session["resources"] if each["allowed"]))


async def reach_the_wiki(story: Story, fact: Facts) -> None:
    """She knocks, and a tunnel carries bytes to the hidden wiki."""
    story.forward, host, port = await _alice(story).forward("wiki")
    began = time.monotonic()
    status, body = await fetch(host, port)
    milliseconds = (time.monotonic() - began) * 1000
    _insist(status == HTTPStatus.OK, f"the wiki answers 200, not {status}")
    fact("GET / through the tunnel", f"{status} {body.decode().strip()!r}")
    fact("knock to last byte", f"{milliseconds:.1f} ms")
    held = asyncio.Event()
    story.held = asyncio.create_task(hold_open(host, port, held))
    await asyncio.wait_for(held.wait(), 10)
    tunnels = (await story.perimeter.gateway_status("edge"))["tunnels"]
    _insist(tunnels and tunnels[0]["group"] == "X25519MLKEM768", f"the tunnel is post-quantum: {tunnels}")
    fact("key exchange", f"{tunnels[0]['group']}, read from the live connection; TLS 1.3, mutual")


async def be_refused(story: Story, fact: Facts) -> None:
    """She asks for something she may not reach."""
    refused, explained = await asyncio.gather(
        _alice(story).gloam("connect", "payroll", text=""),
        story.perimeter.admin("policy", "explain", "--user", "alice", "--resource", "payroll", "--json"),
    )
    _insist(refused.code == ExitCode.DENIED, f"payroll is refused, with exit code 4: {refused}")
    fact("gloam connect payroll", refused.err.strip().removeprefix("gloam: "))
    fact("policy explain agrees", f"{explained.json['answer']}: {explained.json['sentence']}")


async def be_revoked(story: Story, fact: Facts) -> None:
    """Her session is revoked while a tunnel is live."""
    if story.held is None or story.forward is None:
        raise LabError("nothing to revoke")
    revoked = await story.perimeter.admin_json("session", "revoke", "--user", "alice", "--reason", "laptop stolen")
    _insist(revoked["ended"] == 1 and not revoked["lagging"], f"one session ended everywhere: {revoked}")
    cut = await asyncio.wait_for(story.held, 10)
    fact("revoked and cut", f"in {revoked['milliseconds']:.1f} ms, acknowledged by the gateway")
    fact("the live tunnel", f"ended after {cut.bytes} bytes")
    await story.forward.stop()


async def read_the_log(story: Story, fact: Facts) -> None:
    """What the audit log recorded."""
    tail, verdict = await asyncio.gather(
        story.perimeter.admin("audit", "tail", "-n", "9", "--json"), story.perimeter.admin_json("audit", "verify")
    )
    for record in (json_module.loads(line) for line in tail.out.splitlines()):
        event = record["event"]
        shown = "  ".join(f"{key}={event[key]}" for key in SHOWN if event.get(key) not in {None, ""})
        fact(f"{record['at'][11:23]} {record['kind']}", shown)
    _insist(verdict["intact"], "the audit log verifies")
    fact("verified", f"{verdict['records']} records, chained by MAC, all intact")


STEPS: tuple[Callable[[Story, Facts], Awaitable[None]], ...] = (
    set_the_stage,
    scan,
    enrol_and_log_in,
    reach_the_wiki,
    be_refused,
    be_revoked,
    scan,
    read_the_log,
)


def _alice(story: Story) -> Client:
    if story.alice is None:
        raise LabError("Alice has no machine yet")
    return story.alice


def _insist(truth: object, what: str) -> None:
    """A demo that shows something untrue is worse than none."""
    if not truth:
        raise LabError(f"the demo expected that {what}")


async def _demo(output: Output, cloak: str) -> None:
    began = time.monotonic()
    async with Perimeter(cloak=cloak) as perimeter:
        story = Story(perimeter)
        for number, step in enumerate(STEPS):  # setting the stage is no step of the story
            await _tell(output, number, step, story)
    output.say(
        f"\nAll true, in {time.monotonic() - began:.1f} s. Nothing is left running. To try it yourself: make lab"
    )


async def _tell(output: Output, number: int, step: Callable[[Story, Facts], Awaitable[None]], story: Story) -> None:
    facts: list[tuple[str, str]] = []
    began = time.monotonic()
    await step(story, lambda what, how: facts.append((what, how)))
    seconds = time.monotonic() - began
    title = (step.__doc__ or "").removesuffix(".")
    heading = f"{number}. {title}" if number else title
    document = {"step": number, "title": title, "seconds": round(seconds, 3), "facts": [list(fact) for fact in facts]}
    output.row(
        document, "\n".join([f"\n{heading}  ({seconds:.2f} s)", *(f"   {what:<30} {how}" for what, how in facts)])
    )


def main(
    cloak: Annotated[str, typer.Option("--cloak", help="auto, nftables, socket-filter or on-demand.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document a step.")] = False,
) -> None:
    """The whole perimeter on this machine, step by step.

    Example: gloam demo
    """
    try:
        asyncio.run(_demo(Output(json=json), cloak))
    except LabError as error:
        raise CommandError(str(error), "run it again with GLOAM_DEBUG=1, and report it") from error
