"""Knocks that are not quite knocks, at running servers: silence, a dark port, one count, and nothing in the log.

The datagrams come from the reference implementation (tests/spa/reference_knock.py), which shares no code with gloam.
The keys are real ones: at the gateway of a device with a live session, at the controller of one that has yet to log in.
"""

import asyncio
import ipaddress
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from uuid import uuid4

from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.scan import PortState, scan_tcp
from spa.limits import MAX_DATAGRAM, MIN_DATAGRAM
from spa.packet import KnockKind
from tests.scenarios.intruder import Intruder, Server, Watch, controller_of, gateway_of, untroubled, wall_us
from tests.spa.reference_knock import knock

SECOND = 1_000_000
HOUR = 3_600 * SECOND
REPORTED_AT_ONCE = 10  # a door reports a bounded number of refused knocks a second
IN_THE_KERNEL = "length"  # where the kernel filters lengths, admission never sees them
UNDER_NO_KEY = frozenset({"length", "locator", "open"})  # whose knock it was nobody can say: not reported, only counted


def flip(datagram: bytes, index: int) -> bytes:
    return datagram[:index] + bytes([datagram[index] ^ 1]) + datagram[index + 1 :]


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(address).packed


@dataclass
class Thrower:
    """Throws datagrams at one server and hears whatever comes back."""

    server: Server
    intruder: Intruder
    sock: socket.socket = field(init=False)
    _last_us: int = 0

    def __enter__(self) -> Self:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self.sock.bind((self.intruder.source, 0))
        self.sock.connect((self.server.host, KNOCK_PORT))
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def now(self) -> int:
        """Later each time."""
        self._last_us = max(wall_us(), self._last_us + 1)
        return self._last_us

    def knock(self, **fields: Any) -> bytes:
        """A knock that opens this server's door, but for what `fields` say."""
        session = self.intruder.session_id.bytes if self.server.kind is KnockKind.TUNNEL else bytes(16)
        honest: dict[str, Any] = {
            "kind": int(self.server.kind),
            "at": self.now(),
            "session": session,
            "port": TLS_PORT,
            "nonce": secrets.token_bytes(12),
            "pad": secrets.token_bytes(8),
            "secret": self.intruder.secret.reveal(),
            "server": str(self.server.name),
        }
        return knock(**{**honest, **fields})

    async def answer(self, seconds: float = 0.3) -> bytes | str:
        """What came back: nothing is "silence"."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().sock_recv(self.sock, 2048)
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "an ICMP error"


def abuses(thrower: Thrower, elsewhere: Server) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """What it is, the counter it moves, and the datagram, in this order: by a second older is old."""
    tunnel = thrower.server.kind is KnockKind.TUNNEL
    new = thrower.knock
    yield "from the past", "before_start", lambda: new(at=thrower.now() - HOUR, epoch=this_epoch())
    yield "from the future", "clock_skew", lambda: new(at=thrower.now() + 125 * SECOND)
    yield "from the end of time", "locator", lambda: new(at=2**64 - 1)
    yield "nothing", "length", lambda: b""
    yield "one byte", "length", lambda: b"\x01"
    yield "a byte too short for any", "length", lambda: new(pad=b"")[:-1]
    yield "a byte too long for any", "length", lambda: new(pad=bytes(96)) + b"\0"
    yield "as large as a datagram gets", "length", lambda: secrets.token_bytes(65_000)
    yield "noise as short as a knock", "locator", lambda: secrets.token_bytes(MIN_DATAGRAM)
    yield "noise as long as a knock", "locator", lambda: secrets.token_bytes(MAX_DATAGRAM)
    yield "another device's key", "locator", lambda: new(secret=secrets.token_bytes(32))
    yield "for another server", "locator", lambda: new(server=str(elsewhere.name))
    yield (
        "an old epoch's locator",
        "locator",
        lambda: new(epoch=this_epoch() - 3),
    )  # one more: epochs change while we look
    yield "its end cut off", "open", lambda: new()[:-1]
    yield "a byte after its end", "open", lambda: new() + b"\0"
    yield "a bit of the nonce", "open", lambda: flip(new(), 20)
    yield "a bit of the sealed part", "open", lambda: flip(new(), 40)
    yield "sealed with another key", "open", lambda: new()[:28] + secrets.token_bytes(70)
    yield "version 2", "version", lambda: new(version=2)
    yield "an unknown kind", "kind", lambda: new(kind=9)
    yield "a flag", "flags", lambda: new(flags=128)
    yield "reserved not zero", "reserved", lambda: new(reserved=1)
    yield "a byte more inside", "trailing", lambda: new(tail=b"\0")
    yield "less padding than it says", "trailing", lambda: new(pad_len=90)
    yield "a session where there is none", "session", lambda: new(kind=2, session=uuid4().bytes)
    yield "no session where there is one", "session", lambda: new(kind=3, session=bytes(16))
    yield "port 0", "port", lambda: new(port=0)
    yield "to enrol", "kind_not_allowed", lambda: new(kind=1, session=bytes(16))
    other: dict[str, Any] = {"kind": 2, "session": bytes(16)} if tunnel else {"kind": 3, "session": uuid4().bytes}
    yield "for what is not done here", "kind_not_allowed", lambda: new(**other)
    yield "another port", "port", lambda: new(port=22)
    if tunnel:
        yield "a session that does not live", "lease", lambda: new(session=uuid4().bytes)
    yield "for another source", "source", lambda: new(source=mapped(thrower.server.host))
    refused = new(port=23)
    yield "refused once", "port", lambda: refused
    yield "the same again", "old_time", lambda: refused
    early = new(at=thrower.now() - SECOND)
    yield "later than the next", "port", lambda: new(port=24)
    yield "earlier than the last", "old_time", lambda: early


def this_epoch() -> int:
    return int(time.time()) // 900


def dropped(counters: dict[str, int]) -> Counter[str]:
    return Counter({name.removeprefix("dropped."): n for name, n in counters.items() if name.startswith("dropped.")})


async def told_of(watch: Watch, server: Server, intruder: Intruder, reasons: list[str]) -> None:
    """Waits until the audit log has each of these reasons; forgets them."""
    for reason in reasons:
        event = await watch.until("knock.refused", where=server.where, code=reason)
        assert (event["source"], event["key_id"].split("/")[0]) == (intruder.source, "device"), reason
    reasons.clear()


async def throw_everything(
    server: Server,
    elsewhere: Server,
    intruder: Intruder,
    watch: Watch,
    counters: Callable[[], Awaitable[dict[str, int]]],
) -> None:
    before = await counters()
    expected: Counter[str] = Counter()
    with Thrower(server, intruder) as thrower:
        untold: list[str] = []
        for _what, reason, make in abuses(thrower, elsewhere):
            thrower.sock.send(make())
            expected[reason] += 1
            if reason not in UNDER_NO_KEY:
                untold.append(reason)
            if len(untold) == REPORTED_AT_ONCE:
                await told_of(watch, server, intruder, untold)
        await told_of(watch, server, intruder, untold)
        assert await thrower.answer() == "silence"
        state = (await scan_tcp(server.host, [TLS_PORT], source=intruder.source))[TLS_PORT]
        assert state is not PortState.OPEN
        after = await counters()
        moved = dropped(after) - dropped(before)
        assert moved.pop(IN_THE_KERNEL, 0) in {0, expected.pop(IN_THE_KERNEL)}
        assert moved == expected
        assert after["admitted"] == before["admitted"]

        captured = thrower.knock()
        thrower.sock.send(captured)  # the very same but for its lies: it opens, so those above could have
        async with asyncio.timeout(60):
            while (await scan_tcp(server.host, [TLS_PORT], source=intruder.source))[TLS_PORT] is not PortState.OPEN:
                pass
        assert (await counters())["admitted"] == before["admitted"] + 1

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as eavesdropper:
            eavesdropper.bind((f"{intruder.source.rpartition('.')[0]}.241", 0))
            eavesdropper.sendto(captured, (server.host, KNOCK_PORT))
            await watch.until(
                "knock.refused", where=server.where, code="old_time", source=eavesdropper.getsockname()[0]
            )
            state = (await scan_tcp(server.host, [TLS_PORT], source=eavesdropper.getsockname()[0]))[TLS_PORT]
            assert state is not PortState.OPEN
        assert await thrower.answer() == "silence"


async def test_what_is_no_knock_gets_silence_and_one_count(stage: Any) -> None:
    perimeter = stage.perimeter
    gateway, controller = gateway_of(perimeter), controller_of(perimeter)
    alice = await stage.person()
    bob = await stage.person("bob", login=False)  # his key has not been used yet: every time is later than never

    async def gateway_counters() -> dict[str, int]:
        return dict((await perimeter.gateway_status("edge"))["counters"])

    async def controller_counters() -> dict[str, int]:
        return dict((await perimeter.admin_json("status"))["counters"])

    with_client = partial(Intruder.with_client, perimeter)
    async with Watch.on(perimeter) as watch:
        await throw_everything(gateway, controller, with_client(alice), watch, gateway_counters)
        watch.take()
        await throw_everything(controller, gateway, with_client(bob), watch, controller_counters)
    for name in ("controller", "gateway-edge"):
        assert perimeter.processes[name].running
        untroubled(perimeter.processes[name].log)
