"""The table in the kernel itself: what it holds when, and what happens when others touch it."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from spa.cloak import CloakName, choose, try_out
from spa.cloak.nftables import Nftables, remove_table
from spa.cloak.ruleset import table_of
from spa.cover import Trouble, TroubleCode
from spa.errors import CloakError
from spa.limits import UPDATE_BATCH
from spa.packet import KnockKind


@pytest.fixture(autouse=True)
def _works() -> None:
    try:
        try_out(CloakName.NFTABLES)
    except CloakError as error:
        pytest.skip(f"needs the nftables cloak, run the tests as root: {error}; {error.fix}")
    if shutil.which("nft") is None:
        pytest.skip("needs the command nft: apt-get install nftables")


@pytest.fixture
def covered(block: Callable[[int], str]) -> Iterator[tuple[Nftables, socket.socket]]:
    cloak = Nftables()
    with socket.socket() as sock:
        sock.bind((block(1), 0))
        cloak.cover(sock, 16)
        yield cloak, sock
    cloak.take_off()


def nft(*arguments: str) -> str:
    done = subprocess.run(["nft", *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout if done.returncode == 0 else ""


def table(sock: socket.socket) -> str:
    return table_of(*sock.getsockname())


def let_in(cloak: Nftables, *sources: str, seconds: float = 10.0) -> None:
    until = {ip_address(source): seconds for source in sources}
    cloak.let_in(until, until, 0.0)


def answers(place: tuple[str, int], source: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        probe.bind((source, 0))
        try:
            probe.connect(place)
        except TimeoutError:
            return False
        return True


def arrives(sock: socket.socket, source: str) -> bool:
    answered = answers(sock.getsockname(), source)
    if answered:
        sock.accept()[0].close()
    return answered


def test_the_table_is_up_while_the_cloak_is_on_and_gone_after_it(block: Callable[[int], str]) -> None:
    cloak = Nftables()
    with socket.socket() as sock:
        sock.bind((block(1), 0))
        name = table(sock)
        assert nft("list", "table", "inet", name) == ""
        cloak.cover(sock, 16)
        assert "hook input" in nft("list", "table", "inet", name)
        assert cloak.mend() == ""
    cloak.take_off()
    cloak.take_off()
    assert nft("list", "table", "inet", name) == ""


def test_exactly_who_was_told_of_gets_in_for_the_time_that_was_told(
    covered: tuple[Nftables, socket.socket], block: Callable[[int], str]
) -> None:
    cloak, sock = covered
    a, b = ip_address(block(2)), ip_address(block(3))
    assert not arrives(sock, str(a))
    cloak.let_in({a: 10.0, b: 30.0}, [a, b], 0.0)
    assert arrives(sock, str(a))
    assert arrives(sock, str(b))
    assert not arrives(sock, block(4))
    held = nft("list", "table", "inet", table(sock))
    assert f"{b} timeout 30s" in held
    cloak.let_in({a: 20.0, b: 30.0}, [a], 0.0)  # extended; the other is left alone
    assert f"{a} timeout 20s" in nft("list", "table", "inet", table(sock))
    cloak.let_in({b: 30.0}, [a], 1.0)  # before its time
    assert not arrives(sock, str(a))
    assert arrives(sock, str(b))
    assert cloak.mend() == "", "elements come and go without a fuss"


def test_the_kernel_ends_a_window_by_itself(
    covered: tuple[Nftables, socket.socket], block: Callable[[int], str]
) -> None:
    cloak, sock = covered
    let_in(cloak, block(2), seconds=0.05)
    while block(2) in nft("list", "table", "inet", table(sock)):  # bounded by the test's own time limit
        pass
    assert not arrives(sock, block(2))
    cloak.let_in({}, [ip_address(block(2))], 5.0)  # told late, and nothing is left to do


def test_thousands_of_both_versions(covered: tuple[Nftables, socket.socket], block: Callable[[int], str]) -> None:
    cloak, sock = covered
    four = [ip_address(0x0A000000 + i) for i in range(4000)]
    six = [ip_address((0x2001 << 112) + (i << 64) + i) for i in range(4000)]
    inside = dict.fromkeys([*four, *six, ip_address(block(2))], 60.0)
    everybody = list(inside)
    for start in range(0, len(everybody), 500):
        cloak.let_in(inside, everybody[start : start + 500], 0.0)
    assert arrives(sock, block(2))
    assert not arrives(sock, block(3))
    held = nft("list", "table", "inet", table(sock))
    assert held.count("timeout 1m") == len(inside)


@pytest.mark.parametrize(
    "change",
    [
        "delete table inet {}",
        "flush table inet {}",
        "flush chain inet {} guard",
        "insert rule inet {} guard accept",
        "insert rule inet {} input accept",
        "add table inet {} {{ flags dormant; }}",
        "add chain inet {} input {{ policy drop; }}",
    ],
)
def test_whoever_touches_the_rules_is_noticed_and_the_table_put_up_again(
    covered: tuple[Nftables, socket.socket], block: Callable[[int], str], change: str
) -> None:
    cloak, sock = covered
    before = nft("list", "table", "inet", table(sock))
    cloak.mend()
    subprocess.run(["nft", change.format(table(sock))], check=True, timeout=30)
    assert cloak.alarm is not None
    assert cloak.alarm.recv(1 << 16), "the kernel has told"
    assert "changed or removed by somebody else" in cloak.mend()
    assert nft("list", "table", "inet", table(sock)) == before
    assert not arrives(sock, block(2))
    let_in(cloak, block(2))
    assert arrives(sock, block(2))
    assert cloak.mend() == ""


async def test_a_door_closes_again_behind_whoever_removed_its_table(visit: Any) -> None:
    told: asyncio.Future[Trouble] = asyncio.get_running_loop().create_future()
    v = await visit(CloakName.NFTABLES, on_trouble=told.set_result)
    with await v.connect(v.host(2)):
        await asyncio.to_thread(nft, "delete", "table", "inet", table_of(*v.door.bound_listen))
        async with asyncio.timeout(30):
            trouble = await told
        assert (trouble.code, trouble.count) == (TroubleCode.MENDED, 1)
        assert v.door.cloak_trouble == trouble
        assert v.door.counters["cloak_mended"] == 1
        (await v.connect(v.host(2), deadline=20)).close()  # who was in may still come in
    assert not answers(v.door.bound_listen, v.host(250))


KILLED = """
import socket, sys
from ipaddress import ip_address
from spa.cloak.nftables import Nftables
cloak, sock = Nftables(), socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind((sys.argv[1], int(sys.argv[2])))
cloak.cover(sock, 16)
cloak.let_in({ip_address(sys.argv[3]): 60.0}, [ip_address(sys.argv[3])], 0.0)
print("dark", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("successor", [CloakName.NFTABLES, CloakName.SOCKET_FILTER, CloakName.ON_DEMAND])
def test_a_killed_process_leaves_the_port_dark_and_the_next_one_takes_over(
    block: Callable[[int], str], successor: CloakName
) -> None:
    with socket.socket() as probe:
        probe.bind((block(1), 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-c", KILLED, block(1), str(port), block(2)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"dark\n"
        os.kill(process.pid, signal.SIGKILL)
    try:
        assert not answers((block(1), port), block(3))
        if successor is not CloakName.NFTABLES:
            with socket.socket() as sock:
                sock.bind((block(1), port))
                choose(successor, sock, 16)
            assert nft("list", "table", "inet", table_of(block(1), port)) == "", "or it would be dark for good"
            return
        with socket.socket() as sock:
            sock.bind((block(1), port))
            cloak = Nftables()
            cloak.cover(sock, 16)
            assert not arrives(sock, block(2)), "who was let in by the dead one knocks again"
        cloak.take_off()
        assert nft("list", "table", "inet", table_of(block(1), port)) == ""
    finally:
        remove_table(block(1), port)


POWERLESS = """
import ctypes, os, socket, struct, sys
from ipaddress import ip_address
from spa.cloak.nftables import Nftables
from spa.errors import CloakError
from spa.limits import UPDATE_BATCH
from spa.packet import KnockKind
cloak, sock = Nftables(), socket.socket()
sock.bind((sys.argv[1], 0))
cloak.cover(sock, 16)
print(sock.getsockname()[1], flush=True)
sys.stdin.readline()
libc = ctypes.CDLL(None, use_errno=True)
nobody = struct.pack("IIIIII", *[0] * 6)  # no capability at all, capset(2)
assert libc.capset(struct.pack("Ii", 0x20080522, 0), nobody) == 0
for _ in range(2):
    try:
        print(cloak.mend(), flush=True)
    except CloakError as error:
        print(error, error.fix, sep="; ", flush=True)
sys.stdin.read()
"""


def test_where_it_cannot_be_put_up_again_the_port_is_shut(block: Callable[[int], str]) -> None:
    argv = [sys.executable, "-c", POWERLESS, block(1)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            subprocess.run(["nft", "delete", "table", "inet", table_of(block(1), port)], check=True, timeout=30)
            process.stdin.write("\n")
            process.stdin.flush()
            for _ in range(2):
                assert "Operation not permitted; give the process CAP_NET_ADMIN" in process.stdout.readline()
            with pytest.raises(ConnectionRefusedError):
                answers((block(1), port), block(2))
        finally:
            process.kill()
            remove_table(block(1), port)


def test_two_doors_of_one_machine_never_meet(
    covered: tuple[Nftables, socket.socket], block: Callable[[int], str]
) -> None:
    cloak, sock = covered
    with socket.socket() as other:
        other.bind((block(1), 0))
        second = Nftables()
        second.cover(other, 16)
        let_in(second, block(2))
        assert arrives(other, block(2))
        assert not arrives(sock, block(2))
    second.take_off()
    assert cloak.mend() == ""
    assert not arrives(sock, block(2))


async def test_more_sources_than_one_update_takes_are_told_one_after_the_other(visit: Any) -> None:
    v = await visit(CloakName.NFTABLES)
    port, now = v.door.bound_listen.port, asyncio.get_running_loop().time()
    sources = [ip_address(0x0A000000 + i) for i in range(2 * UPDATE_BATCH + 100)]
    for number, source in enumerate(sources):
        v.door.windows.open(source, port, KnockKind.CONTROL, f"device/{number % 20}", now + 60)
    v.door._update_cloak()
    assert len(v.door._cover.let_in) <= UPDATE_BATCH
    for _ in range(3_000):  # a hundredth of a second at a time
        if not v.door._cover._changed:
            break
        await asyncio.sleep(0.01)
    held = await asyncio.to_thread(nft, "list", "table", "inet", table_of(*v.door.bound_listen))
    assert held.count("timeout 1m") == len(sources)


WITHOUT_LIBRARY = """
import asyncio, sys
from spa import Admission, CloakName, Door
door = Door(
    listen=(sys.argv[1], 0), knock=(sys.argv[1], 0), cloak=CloakName.AUTO, on_connection=lambda s, f: None,
    admission=Admission(started_us=0, kinds=frozenset(), ports=frozenset(), lease_live=lambda k, s: False),
)
async def main():
    await door.start()
    print(door.cloak_name, door.cloak_reason, sep="|")
    await door.close()
asyncio.run(main())
"""


def test_without_the_library_auto_takes_the_next_cloak_and_says_what_to_install(block: Callable[[int], str]) -> None:
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True, timeout=30).stdout
    path = next(line.rpartition(" ")[2] for line in known.splitlines() if "libnftables.so.1 " in line)
    hidden = f'mount --bind /dev/null {path} && exec {sys.executable} -c "$1" {block(1)}'
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", WITHOUT_LIBRARY]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    name, why = done.stdout.split("|")
    assert name == "socket-filter"
    assert "libnftables.so.1 is not installed; install it (Debian: apt-get install libnftables1)" in why
