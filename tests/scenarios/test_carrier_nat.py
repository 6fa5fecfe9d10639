"""A person whose line has several ways out: UDP and TCP leave from different addresses, as behind some carriers.

The carrier is the kernel's own NAT in a network namespace: the addresses that servers see are really rewritten.
"""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.addresses import TLS_PORT
from lab.own_network import own_network
from lab.perimeter import Client
from lab.processes import Finished
from lab.visitor import fetch
from tests.scenarios.intruder import Watch

HOME = "127.0.0.1"  # what the kernel takes for connections to loopback addresses; knocks come from here
FIRST, OTHER = "127.0.0.9", "127.0.0.20"  # the carrier's addresses for TCP
SMALL_POOL = "127.0.0.0/28"  # without `OTHER`: wherever an agent reconnects from, the controller would learn that
POOL = "127.0.0.0/27"
UNREACHABLE = 3


@pytest.fixture
def carrier(as_root: None, tool: Callable[[str], str]) -> Iterator[Callable[[str], None]]:
    """`carrier(ADDRESS)`: from now on TCP connections from `HOME` to a perimeter's TLS ports leave from ADDRESS."""
    nft = tool("nft")

    def leave_from(address: str) -> None:
        rules = f"""
            table ip carrier
            delete table ip carrier
            table ip carrier {{
                chain out {{
                    type nat hook postrouting priority srcnat
                    ip saddr {HOME} tcp dport {TLS_PORT} snat to {address}
                }}
            }}
        """
        subprocess.run([nft, "-f", "-"], input=rules, text=True, check=True, capture_output=True)

    with own_network():
        yield leave_from


async def connect(client: Client) -> Finished:
    """`gloam connect wiki`, asking for its page."""
    return await client.gloam("connect", "wiki", text="GET / HTTP/1.1\r\nHost: wiki\r\nConnection: close\r\n\r\n")


async def test_a_person_with_several_ways_out(make_stage: Any, carrier: Callable[[str], None]) -> None:
    carrier(FIRST)
    # The controller is told of a pool: nobody could teach a client where the controller itself sees it.
    async with make_stage(settings={"GLOAM_SHARED_NETWORKS": SMALL_POOL}) as stage:
        perimeter = stage.perimeter
        alice = await stage.person()
        assert (await perimeter.admin_json("session", "list"))[0]["source"] == FIRST

        # The gateway is told of nothing but where the controller sees the session: a knock that names it opens for it.
        forward, host, port = await alice.forward("wiki")
        assert (await fetch(host, port))[0] == 200
        async with Watch.on(perimeter, past=1000) as watch:
            opened = await watch.until("tunnel.opened", resource="wiki")
        assert opened["source"].startswith(f"{FIRST}:")

        # New connections to the gateway leave from yet another address: it stays dark, and the person is told. (The
        # forward still has warm ones from the first.)
        carrier(OTHER)
        refused = await connect(alice)
        assert refused.code == UNREACHABLE, await stage.events("tunnel.opened")
        assert "gateway edge does not answer" in refused.err
        assert OTHER not in {each["source"] for each in (await perimeter.gateway_status("edge"))["windows"]}

        # An administrator who shares the pool lets them in again.
        carrier(FIRST)  # the gateway itself stands behind the same carrier, and its controller knows the small pool
        await perimeter.processes["gateway-edge"].stop()
        await perimeter.start_gateway("edge", GLOAM_SHARED_NETWORKS=POOL)
        carrier(OTHER)
        async with asyncio.timeout(30):
            while (status := (await fetch_or_none(host, port))) != 200:
                assert status is None
        await forward.stop()


async def fetch_or_none(host: str, port: int) -> int | None:
    """The status of the page; None where the connection came to nothing (the lease may be on its way yet)."""
    try:
        return (await fetch(host, port))[0]
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
