"""What a stranger's scanner says: nmap with raw packets, from an address that never knocked."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from typing import Any

import pytest

from spa.cloak import CloakName

needs_nmap = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nmap") is None,
    reason="needs root and nmap: apt-get install nmap, and run the tests as root",
)
ONE_LOOP = pytest.mark.asyncio(loop_factories=["asyncio"])  # what the scanner sees is the kernel's doing


async def nmap(target: str, port: int, *options: str) -> str:
    """The state nmap gives the port."""
    scan = await asyncio.create_subprocess_exec(
        "nmap", "-n", "-Pn", "--max-retries", "1", "-p", str(port), *options, target, stdout=asyncio.subprocess.PIPE
    )
    report = (await scan.communicate())[0].decode()
    line = next(line for line in report.splitlines() if line.startswith(f"{port}/"))
    return line.split()[1]


def stranger(v: Any) -> tuple[str, ...]:
    return ("-S", v.host(250), "-e", "lo")


@needs_nmap
@pytest.mark.parametrize(
    ("cloak", "states"),
    [
        (CloakName.NFTABLES, {"-sS": "filtered", "-sA": "filtered", "-sF": "open|filtered", "-sN": "open|filtered"}),
        (CloakName.SOCKET_FILTER, {"-sS": "filtered", "-sA": "filtered", "-sF": "open|filtered"}),
        (CloakName.ON_DEMAND, {"-sS": "closed", "-sA": "unfiltered", "-sF": "closed"}),
    ],
)
@ONE_LOOP
async def test_nmap_sees_no_door(visit: Any, cloak: CloakName, states: dict[str, str]) -> None:
    v = await visit(cloak)
    place, knock = v.door.bound_listen, v.door.bound_knock
    seen = await asyncio.gather(*(nmap(place.host, place.port, scan, *stranger(v)) for scan in states))
    assert dict(zip(states, seen, strict=True)) == states
    assert await nmap(knock.host, knock.port, "-sU", *stranger(v)) == "open|filtered", "nothing answered"
    assert v.admits == []


@needs_nmap
@ONE_LOOP
@pytest.mark.parametrize("cloak", [CloakName.NFTABLES, CloakName.SOCKET_FILTER])
async def test_nmap_sees_no_door_while_it_is_open_for_somebody_else(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    with await v.connect(v.host(2)):
        assert await nmap(v.door.bound_listen.host, v.door.bound_listen.port, "-sS", *stranger(v)) == "filtered"
        (await v.connect(v.host(2))).close()


@needs_nmap
@pytest.mark.parametrize(
    ("cloak", "state"),
    [(CloakName.NFTABLES, "filtered"), (CloakName.SOCKET_FILTER, "filtered"), (CloakName.ON_DEMAND, "closed")],
)
@ONE_LOOP
async def test_nmap_sees_no_door_over_ipv6(visit: Any, cloak: CloakName, state: str) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("needs IPv6 on the loopback interface: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    v = await visit(cloak, ("::1", 0))
    assert await nmap("::1", v.door.bound_listen.port, "-6", "-sS") == state


WITHOUT_PRIVILEGE = """
import asyncio, sys
from spa.admission import Admission
from spa.cloak import CloakName
from spa.door import Door
from spa.errors import DoorError
from spa.kernel import attach_filter
from spa.cloak.bpf import DROP_ALL, pack
import socket

def door(cloak):
    admission = Admission(started_us=0, kinds=frozenset(), ports=frozenset(), lease_live=lambda k, s: False)
    return Door(listen=(sys.argv[1], 0), knock=(sys.argv[1], 0), cloak=cloak, admission=admission,
                on_connection=lambda s, f: None)

async def main():
    auto = door(CloakName.AUTO)
    await auto.start()
    print(auto.cloak_name)
    print(auto.cloak_reason)
    await auto.close()
    for cloak in (CloakName.NFTABLES, CloakName.SOCKET_FILTER):
        try:
            await door(cloak).start()
        except DoorError as error:
            print(error, error.fix, sep="; ")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        attach_filter(udp, pack(DROP_ALL))
        print("UDP filter attached")

asyncio.run(main())
"""


def test_without_the_privilege_auto_falls_back_to_on_demand_and_says_why(block: Any) -> None:
    drop: list[str] = []
    if os.geteuid() == 0:
        if sys.platform != "linux" or shutil.which("setpriv") is None:
            pytest.skip("needs setpriv to give up CAP_NET_ADMIN: apt-get install util-linux")
        drop = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", WITHOUT_PRIVILEGE, block(1)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    chosen, why, no_tables, refused, udp = done.stdout.splitlines()
    if chosen == CloakName.SOCKET_FILTER:
        pytest.skip("needs a kernel that wants CAP_NET_ADMIN for filters on TCP sockets: this one asks for nothing")
    assert chosen == "on-demand"
    assert "socket-filter cloak does not work here: Operation not permitted; give the process CAP_NET_ADMIN" in why
    grant = "the nftables cloak does not work here: Operation not permitted; give the process CAP_NET_ADMIN"
    assert no_tables.startswith(grant)
    assert why.startswith(grant)
    assert refused.startswith("the socket-filter cloak does not work here")
    assert udp == "UDP filter attached"
