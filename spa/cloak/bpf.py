"""Classic BPF programs, as values: which packets a socket may see.

Laws:

1. A program of `admit_sources` accepts a packet exactly if its IP source address is one of the given; everything else,
   whatever it is, is dropped. No sources: everything is dropped.
2. It is a balanced search tree: the kernel compares a few dozen numbers for any number of sources.
3. A program has at most `MAX_FILTER` instructions, the kernel's limit; `instructions_for` is an upper bound that can be
   asked before building.
4. The same program serves an IPv4 socket, an IPv6 socket, and an IPv6 socket that also takes IPv4: it reads the version
   of each packet. There a v4-mapped source *is* an IPv4 packet.
"""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address
from itertools import groupby
from struct import Struct
from typing import Final, NamedTuple

from spa.errors import CloakError
from spa.limits import MAX_FILTER
from spa.packet import IPAddress, plain_address


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    jump_true: int
    jump_false: int
    k: int


Program = tuple[Instruction, ...]

LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
LOAD_BYTE: Final = 0x30  # BPF_LD | BPF_B | BPF_ABS
LOAD_LENGTH: Final = 0x80  # BPF_LD | BPF_W | BPF_LEN
SHIFT_RIGHT: Final = 0x74  # BPF_ALU | BPF_RSH | BPF_K
JUMP: Final = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER: Final = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

NETWORK: Final = 0xFFF0_0000  # SKF_NET_OFF: offsets from the IP header, wherever the socket's own view begins
UDP_HEADER: Final = 8

DROP: Final = Instruction(RETURN, 0, 0, 0)
ACCEPT: Final = Instruction(RETURN, 0, 0, 0xFFFF_FFFF)
DROP_ALL: Final[Program] = (DROP,)

_ENTRY: Final = Struct("=HBBI")
_FARTHEST: Final = 255  # a conditional jump has one byte
_BUCKET: Final = 16  # addresses compared one by one at a leaf: 1.25 instructions an address instead of 2
_SOURCE_V4: Final = NETWORK + 12
_SOURCE_V6: Final = NETWORK + 8
_WORDS_V6: Final = 4
_PER_BUCKET_V4: Final = 4  # two returns, and a node of at most two instructions
_PER_SOURCE_V6: Final = 14  # three words found and loaded (9), the last one (3), and a node of at most two
_OVERHEAD: Final = 12

_Words = tuple[int, ...]


def admit_sources(sources: Collection[IPAddress]) -> Program:
    """Accepts packets from `sources`, drops the rest; `CloakError` if that does not fit."""
    plain = {plain_address(source) for source in sources}
    v4 = sorted(int(source) for source in plain if isinstance(source, IPv4Address))
    v6 = sorted(_words(source.packed) for source in plain if not isinstance(source, IPv4Address))
    if not plain:
        return DROP_ALL
    six = [Instruction(JUMP_EQUAL, 1, 0, 6), DROP, *_branch_v6(0, v6)] if v6 else [DROP]
    program = (
        Instruction(LOAD_BYTE, 0, 0, NETWORK),
        Instruction(SHIFT_RIGHT, 0, 0, 4),
        Instruction(JUMP_EQUAL, 0, 1, 4),
        Instruction(JUMP, 0, 0, len(six)),
        *six,
        *(_branch_v4(v4) if v4 else [DROP]),
    )
    if len(program) > MAX_FILTER:
        raise CloakError(
            f"{len(plain)} sources with open windows need {len(program)} filter instructions of {MAX_FILTER}",
            "use the nftables cloak, which holds any number",
        )
    return program


def admit_datagram_lengths(shortest: int, longest: int) -> Program:
    """Accepts UDP datagrams whose payload has between `shortest` and `longest` bytes."""
    return (
        Instruction(LOAD_LENGTH, 0, 0, 0),
        Instruction(JUMP_AT_LEAST, 1, 0, UDP_HEADER + shortest),
        DROP,
        Instruction(JUMP_GREATER, 0, 1, UDP_HEADER + longest),
        DROP,
        ACCEPT,
    )


def instructions_for(v4: int, v6: int) -> int:
    """At most so many instructions do `v4` IPv4 and `v6` IPv6 sources take."""
    return _OVERHEAD + v4 + _PER_BUCKET_V4 * -(-v4 // _BUCKET) + _PER_SOURCE_V6 * v6


def pack(program: Program) -> bytes:
    """The array of `struct sock_filter` the kernel reads."""
    return b"".join(_ENTRY.pack(*instruction) for instruction in program)


def _branch_v4(addresses: Sequence[int]) -> list[Instruction]:
    return [Instruction(LOAD_WORD, 0, 0, _SOURCE_V4), *_tree(addresses)]


def _tree(values: Sequence[int]) -> list[Instruction]:
    """Accepts if the accumulator is one of `values` (sorted, not empty), else drops."""
    buckets = -(-len(values) // _BUCKET)
    if buckets == 1:
        last = len(values) - 1
        return [*(Instruction(JUMP_EQUAL, last - i + 1, 0, value) for i, value in enumerate(values)), DROP, ACCEPT]
    middle = buckets // 2 * _BUCKET
    return _node(values[middle], _tree(values[:middle]), _tree(values[middle:]))


def _node(first_right: int, left: list[Instruction], right: list[Instruction]) -> list[Instruction]:
    if len(left) <= _FARTHEST:
        return [Instruction(JUMP_AT_LEAST, len(left), 0, first_right), *left, *right]
    return [Instruction(JUMP_AT_LEAST, 0, 1, first_right), Instruction(JUMP, 0, 0, len(left)), *left, *right]


def _branch_v6(level: int, addresses: Sequence[_Words]) -> list[Instruction]:
    """Word by word: the tree of the first word leads to the trees of the second, and so on."""
    load = Instruction(LOAD_WORD, 0, 0, _SOURCE_V6 + 4 * level)
    if level == _WORDS_V6 - 1:
        return [load, *_tree([words[level] for words in addresses])]
    groups = [(word, list(group)) for word, group in groupby(addresses, key=lambda words: words[level])]
    return [load, *_tree_v6(level, groups)]


def _tree_v6(level: int, groups: Sequence[tuple[int, list[_Words]]]) -> list[Instruction]:
    if len(groups) == 1:
        word, addresses = groups[0]
        return [Instruction(JUMP_EQUAL, 1, 0, word), DROP, *_branch_v6(level + 1, addresses)]
    middle = len(groups) // 2
    return _node(groups[middle][0], _tree_v6(level, groups[:middle]), _tree_v6(level, groups[middle:]))


def _words(packed: bytes) -> _Words:
    return tuple(int.from_bytes(packed[i : i + 4], "big") for i in range(0, 16, 4))
