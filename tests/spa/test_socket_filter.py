"""The programs in the kernel itself, attached to real sockets."""

import contextlib
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import pytest

from spa.cloak.bpf import DROP_ALL, Program, admit_datagram_lengths, admit_sources, instructions_for, pack
from spa.cloak.socket_filter import SocketFilter
from spa.errors import CloakError
from spa.kernel import attach_filter, detach_filter
from spa.packet import IPAddress

PADDING = [IPv4Address(0x0A000000 + 2 * i) for i in range(3000)]


@pytest.fixture
def covered(block: Callable[[int], str]) -> tuple[SocketFilter, socket.socket]:
    cloak, sock = SocketFilter(), socket.socket()
    with contextlib.closing(sock):
        sock.bind((block(1), 0))
        try:
            cloak.cover(sock, 16)
        except CloakError as error:
            pytest.skip(f"needs Linux and CAP_NET_ADMIN, run the tests as root: {error}")
        yield cloak, sock


def let_in(cloak: SocketFilter, sources: Collection[IPAddress]) -> None:
    cloak.let_in(dict.fromkeys(sources, 10.0), sources, 0.0)


def arrives(sock: socket.socket, source: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.15)
        probe.bind((source, 0))
        try:
            probe.connect(sock.getsockname())
        except TimeoutError:
            return False
        sock.accept()[0].close()
        return True


@pytest.mark.parametrize("padding", [[], PADDING[:100], PADDING], ids=["alone", "of hundreds", "of thousands"])
def test_the_kernel_lets_in_exactly_the_sources(
    covered: tuple[SocketFilter, socket.socket], block: Callable[[int], str], padding: list[IPv4Address]
) -> None:
    cloak, sock = covered
    assert cloak._most == 4096
    assert not arrives(sock, block(2))
    let_in(cloak, [ip_address(block(2)), ip_address(block(9)), *padding])
    assert arrives(sock, block(2))
    assert arrives(sock, block(9))
    assert not arrives(sock, block(3))
    assert not arrives(sock, block(8))
    let_in(cloak, padding)
    assert not arrives(sock, block(2))


def test_there_is_room_for_as_many_as_the_kernel_takes(covered: tuple[SocketFilter, socket.socket]) -> None:
    cloak, _ = covered
    most = next(n for n in range(4096, 0, -1) if instructions_for(n, 0) <= 4096)
    sources = [IPv4Address(0xF0000000 + 2 * i) for i in range(most)]
    assert cloak.room_for(most, 0, list)
    assert not cloak.room_for(most + 1, 0, list)
    for _ in range(3):
        let_in(cloak, sources)
        let_in(cloak, sources[1:])
    with pytest.raises(CloakError, match="instructions of 4096"):
        let_in(cloak, [IPv4Address(0xF0000000 + 2 * i) for i in range(4000)])


def test_hundreds_of_ipv6_sources_pass_the_kernels_own_check(covered: tuple[SocketFilter, socket.socket]) -> None:
    """With nothing in common; each program while the one before it still takes its memory."""
    cloak, _ = covered
    random = Random(6)  # noqa: S311 - the same every time
    sources = [IPv6Address(random.getrandbits(128)) for _ in range(540)]
    assert cloak.room_for(0, len(sources), lambda: sources)
    assert not cloak.room_for(0, 2 * len(sources), lambda: [*sources, *(source + 1 for source in sources)])
    for start in range(3):
        let_in(cloak, sources[start:])


def receives(program: Program, *, family: socket.AddressFamily, host: str, payload: bytes, source: str) -> bool:
    """Whether a UDP socket with this filter gets the payload. UDP, so that it can be tried without privileges."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.ExitStack() as stack:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        sock.settimeout(0.1)
        attach_filter(sock, pack(program))
        other = socket.AF_INET6 if ":" in source else socket.AF_INET
        udp = stack.enter_context(socket.socket(other, socket.SOCK_DGRAM))
        udp.bind((source, 0))
        udp.sendto(payload, ("::1" if ":" in source else "127.0.0.1", sock.getsockname()[1]))
        try:
            return sock.recv(2048) == payload
        except TimeoutError:
            return False


@pytest.mark.parametrize(
    ("family", "host", "source", "inside", "received"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.7", ["127.0.0.7"], True),
        (socket.AF_INET, "127.0.0.1", "127.0.0.8", ["127.0.0.7"], False),
        (socket.AF_INET, "127.0.0.1", "127.0.0.8", ["::1"], False),
        (socket.AF_INET6, "::", "127.0.0.7", ["127.0.0.7"], True),
        (socket.AF_INET6, "::", "127.0.0.7", ["::ffff:127.0.0.7", "::1"], True),
        (socket.AF_INET6, "::", "127.0.0.8", ["127.0.0.7", "::1"], False),
        (socket.AF_INET6, "::", "::1", ["127.0.0.7", "::1"], True),
        (socket.AF_INET6, "::", "::1", ["127.0.0.7", "::2"], False),
        (socket.AF_INET6, "::", "::1", ["127.0.0.7"], False),
        (socket.AF_INET6, "::", "::1", [], False),
    ],
)
def test_ipv4_ipv6_and_both_on_one_socket(
    family: socket.AddressFamily, host: str, source: str, inside: list[str], received: object
) -> None:
    program = admit_sources([ip_address(each) for each in inside])
    try:
        assert receives(program, family=family, host=host, payload=b"x", source=source) is received
    except OSError as error:
        pytest.skip(f"needs Linux, with IPv6 on the loopback interface: {error}")


@pytest.mark.parametrize(("length", "received"), [(0, False), (90, False), (91, True), (187, True), (188, False)])
def test_the_kernel_drops_impossible_lengths(length: int, received: object) -> None:
    program, payload = admit_datagram_lengths(91, 187), bytes(length)
    for family, host, source in (
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_INET6, "::", "::1"),
    ):
        assert receives(program, family=family, host=host, payload=payload, source=source) is received


def test_a_filter_is_taken_off_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(1)
        attach_filter(sock, pack(DROP_ALL))
        detach_filter(sock)
        detach_filter(sock)
        sock.sendto(b"x", sock.getsockname())
        assert sock.recv(1) == b"x"
