"""The programs against a plain set, in an interpreter written from the kernel's filter documentation."""

import operator
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa.cloak import bpf
from spa.cloak.bpf import (
    Instruction,
    Program,
    admit_datagram_lengths,
    admit_sources,
    instructions_for,
    instructions_of,
    pack,
)
from spa.errors import CloakError
from spa.limits import MAX_FILTER
from spa.packet import IPAddress

v4 = st.one_of(st.ip_addresses(v=4), st.integers(0, 40).map(lambda i: IPv4Address(0x7F000000 + i)))
v6 = st.one_of(
    st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None),
    # Words that many share, whichever they are.
    st.tuples(*[st.integers(1, 3)] * 4).map(lambda words: IPv6Address(struct.pack(">4I", *words))),
)
sources = st.one_of(st.lists(v4, max_size=90), st.lists(v6, max_size=30), st.lists(st.one_of(v4, v6), max_size=60))


def packet(source: IPAddress) -> bytes:
    """An IP header from `source`; all else is noise."""
    if isinstance(source, IPv4Address):
        return b"\x45" + bytes(11) + source.packed + b"\x7f\x00\x00\x01"
    return b"\x60" + bytes(7) + source.packed + bytes(15) + b"\x01"


JUMPS = {bpf.JUMP_EQUAL: operator.eq, bpf.JUMP_GREATER: operator.gt, bpf.JUMP_AT_LEAST: operator.ge}


def run(program: Program, network: bytes, length: int = 60) -> bool:
    """Whether the packet is accepted. A load beyond its end drops it, as in the kernel."""
    accumulator, at = 0, 0
    kept: dict[int, int] = {}
    while True:
        code, jump_true, jump_false, k = program[at]
        at += 1
        width = {bpf.LOAD_WORD: 4, bpf.LOAD_BYTE: 1}.get(code)
        if width is not None:
            offset = k - bpf.NETWORK
            assert offset >= 0
            if offset + width > len(network):
                return False
            accumulator = int.from_bytes(network[offset : offset + width], "big")
        elif code in {bpf.LOAD_LENGTH, bpf.LOAD_KEPT}:
            accumulator = length if code == bpf.LOAD_LENGTH else kept[k]
        elif code == bpf.KEEP:
            kept[k] = accumulator
        elif code == bpf.SHIFT_RIGHT:
            accumulator >>= k
        elif code == bpf.JUMP:
            at += k
        elif code in JUMPS:
            at += jump_true if JUMPS[code](accumulator, k) else jump_false
        else:
            assert code == bpf.RETURN
            return k > 0


def neighbours(address: IPAddress) -> list[IPAddress]:
    """The addresses most easily confused with this one."""
    bits = address.max_prefixlen
    return [type(address)(int(address) ^ (1 << bit)) for bit in (0, 1, bits // 2, bits - 1)]


@given(sources, st.lists(st.one_of(v4, v6), max_size=10))
def test_exactly_the_sources_are_let_in(inside: list[IPAddress], others: list[IPAddress]) -> None:
    program = admit_sources(inside)
    for address in [*inside, *others, *(each for known in inside for each in neighbours(known))]:
        assert run(program, packet(address)) is (address in set(inside))


@given(sources)
def test_the_kernel_would_take_it(inside: list[IPAddress]) -> None:
    program = admit_sources(inside)
    distinct = set(inside)
    four = sum(isinstance(each, IPv4Address) for each in distinct)
    assert len(program) == instructions_of(inside) <= instructions_for(four, len(distinct) - four)
    assert program[-1].code == bpf.RETURN
    for index, (code, jump_true, jump_false, k) in enumerate(program):
        assert 0 <= jump_true <= 255
        assert 0 <= jump_false <= 255
        farthest = k if code == bpf.JUMP else max(jump_true, jump_false)
        assert index + 1 + farthest < len(program) or code == bpf.RETURN
    assert len(pack(program)) == 8 * len(program)


@pytest.mark.parametrize(
    "network", [b"", b"\x45", b"\x60" + bytes(20), b"\x00" * 40, b"\xf5" * 40, b"\x45" + bytes(14)]
)
@pytest.mark.parametrize("inside", [[], ["0.0.0.1"], ["::"], ["0.0.0.1", "::"]])
def test_what_is_no_ip_packet_is_dropped(network: bytes, inside: list[str]) -> None:
    assert run(admit_sources([ip_address(each) for each in inside]), network) is False


def test_a_mapped_source_is_the_ipv4_source_it_maps() -> None:
    program = admit_sources([ip_address("::ffff:192.0.2.1")])
    assert run(program, packet(ip_address("192.0.2.1")))


@pytest.mark.parametrize(("four", "six"), [(3200, 0), (0, 335), (1600, 165)])
def test_thousands_fit_and_are_told_apart(four: int, six: int) -> None:
    inside = [IPv4Address(0x0A000000 + 2 * i) for i in range(four)]
    inside6 = [IPv6Address((0x2001 << 112) + (i << 100) + (i << 64) + i) for i in range(six)]
    assert instructions_for(four, six) <= MAX_FILTER
    program = admit_sources([*inside, *inside6])
    assert len(program) <= MAX_FILTER
    for address in [*inside[::37], *inside6[::7]]:
        assert run(program, packet(address))
        assert not run(program, packet(type(address)(int(address) + 1)))


@pytest.mark.parametrize(("shared_bits", "sources"), [(0, 540), (32, 760), (64, 1200)])
def test_ipv6_sources_that_share_more_take_less(shared_bits: int, sources: int) -> None:
    random = Random(shared_bits)  # noqa: S311 - the same every time
    shared = 0x2001_0DB8_0000_0001 << 64 >> (128 - shared_bits) << (128 - shared_bits) if shared_bits else 0
    inside = [IPv6Address(shared | random.getrandbits(128 - shared_bits)) for _ in range(sources)]
    program = admit_sources(inside)
    assert len(program) <= MAX_FILTER
    for address in inside[::11]:
        assert run(program, packet(address))
        assert not any(run(program, packet(other)) for other in neighbours(address))


def test_a_program_too_long_for_the_kernel_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CloakError, match="of 4096") as refused:
        admit_sources([IPv4Address(2 * i) for i in range(4096)])
    assert "nftables" in refused.value.fix


def test_lengths_let_in_are_exactly_those_of_knocks() -> None:
    program = admit_datagram_lengths(91, 187)
    assert [length for length in range(300) if run(program, b"", length + 8)] == list(range(91, 188))


def test_instructions_are_packed_as_the_kernel_reads_them() -> None:
    assert pack((Instruction(0x15, 1, 2, 0x01020304),)) == struct.pack("=HBBI", 0x15, 1, 2, 0x01020304)
