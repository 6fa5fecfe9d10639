"""A perimeter on IPv6 alone: every address a person types, every place one is shown, and what a scan says of it.

It stands in a network namespace with a /48 of unique local addresses, so each party has an address of its own.
"""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509

from certs.store import IdentityStore
from lab.addresses import KNOCK_PORT, TLS_PORT, Block6, place
from lab.own_network import ULA, own_network
from lab.processes import finish
from lab.visitor import fetch
from tests.scenarios.conftest import Stage
from tests.scenarios.intruder import Watch


@pytest.fixture
def ipv6_alone(as_root: None, tool: Callable[[str], str]) -> Iterator[None]:
    """This test's sockets and processes are in a network of their own."""
    tool("ip")
    with own_network():
        yield


async def scan(nmap: str, host: str, ports: str, source: str, kind: str) -> dict[int, str]:
    done = await finish([nmap, "-6", kind, "-Pn", "-n", "-p", ports, "-e", "lo", "-S", source, host], seconds=60)
    return {int(port): state for port, state in re.findall(r"^(\d+)/(?:tcp|udp)\s+(\S+)", done.out, re.MULTILINE)}


async def test_a_perimeter_on_ipv6_works_and_is_dark(
    make_stage: Any, tool: Callable[[str], str], ipv6_alone: None
) -> None:
    nmap = tool("nmap")
    block = Block6(ULA)
    async with make_stage(cloak="socket-filter", block=block) as stage:
        perimeter = stage.perimeter
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki", listen="[::1]:0")
        assert host == "::1"
        assert (await fetch(host, port))[0] == 200

        for dark_host in (perimeter.controller_address, perimeter.gateways["edge"]):
            tcp = await scan(nmap, dark_host, f"22,443,{TLS_PORT}", block.stranger, "-sS")
            assert tcp == {22: "closed", 443: "closed", TLS_PORT: "filtered"}, dark_host
            udp = await scan(nmap, dark_host, str(KNOCK_PORT), block.stranger, "-sU")
            assert udp == {KNOCK_PORT: "open|filtered"}, dark_host
        assert (await fetch(host, port))[0] == 200
        await everything_is_shown_as_it_is_typed(stage, alice)
        await curl_goes_through(stage, alice, tool)
        await mistakes_are_explained(stage, alice)
        await forward.stop()
        assert (await alice.gloam("logout")).code == 0


async def everything_is_shown_as_it_is_typed(stage: Stage, alice: Any) -> None:
    """Brackets around addresses with a port, none without one, in commands, status and the audit log."""
    perimeter, edge = stage.perimeter, place(stage.perimeter.gateways["edge"], TLS_PORT)
    shown = (await perimeter.admin_json("gateway", "list"))[0]
    assert (shown["tunnel"], shown["advertise"]) == (edge, edge)
    wiki = next(each for each in await perimeter.admin_json("resource", "list") if each["name"] == "wiki")
    assert wiki["target"].startswith(f"[{ULA}")
    status = await perimeter.gateway_status("edge")
    assert status["listen"] == edge
    async with Watch.on(perimeter, past=1000) as watch:
        opened = await watch.until("tunnel.opened", resource="wiki")
    assert opened["target"] == wiki["target"]
    assert opened["source"].startswith("[")
    source = (await perimeter.admin_json("session", "list"))[0]["source"]
    assert ":" in source
    assert not source.startswith("[")
    explained = await perimeter.admin_json(
        "policy", "explain", "--user", alice.name, "--resource", "wiki", "--source", source
    )
    assert explained["answer"] == "allow"


async def curl_goes_through(stage: Stage, alice: Any, tool: Callable[[str], str]) -> None:
    """The proxy's address is a URL: `gloam knock` prints it so that curl takes it."""
    knocked = await alice.json("knock", "wiki")
    assert knocked["proxy"] == f"https://{place(stage.perimeter.gateways['edge'], TLS_PORT)}"
    options = (await alice.gloam("knock", "wiki")).out.split()
    done = await asyncio.to_thread(
        subprocess.run,
        # Curl checks a proxy's IPv6 address only if the URL has one, too (its issue 12831): ours is checked below.
        [tool("curl"), "-sS", "--max-time", "20", "--proxy-insecure", *options, "http://wiki/"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "The wiki nobody can see" in done.stdout, done.stderr
    leaf = IdentityStore(stage.perimeter.gateway_state("edge")).load("gateway").leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address(stage.perimeter.gateways["edge"])]


async def mistakes_are_explained(stage: Stage, alice: Any) -> None:
    """One line that says what is wrong, whoever types it."""
    admin = stage.perimeter.admin
    refused = {
        "an interface": (await admin("resource", "add", "x", "--gateway", "edge", "--target", "[fe80::1%eth0]:80"), 2),
        "no brackets": (await admin("resource", "add", "x", "--gateway", "edge", "--target", "fd00::5:80"), 2),
        "everywhere": (await admin("gateway", "add", "x", "--tunnel", "[::]:1", "--knock", "[::]:2"), 2),
        "a source": (
            await admin("policy", "explain", "--user", alice.name, "--resource", "wiki", "--source", "::g"),
            2,
        ),
        "a listener": (await alice.gloam("forward", "wiki", "--listen", "[fe80::1%lo]:0"), 2),
    }
    for what, (done, code) in refused.items():
        assert done.code == code, (what, done)
        assert done.out == "", what
        assert done.err.count("\n") == 1, (what, done.err)
    assert "names an interface" in refused["an interface"][0].err
    assert "brackets" in refused["no brackets"][0].err
    mapped = await admin(
        "resource", "add", "mapped", "--gateway", "edge", "--target", "[::ffff:192.0.2.5]:80", "--json"
    )
    assert mapped.code == 0, mapped.err
    listed = json.loads((await admin("resource", "list", "--json")).out)
    assert {"192.0.2.5:80"} == {each["target"] for each in listed if each["name"] == "mapped"}
