"""Classic BPF programs, as values: which packets a socket may see.

Laws:

1. A program of `admit_sources` accepts a packet exactly if its IP source address is one of the given; everything else,
   whatever it is, is dropped. No sources: everything is dropped.
2. It is a balanced search tree: the kernel compares a few dozen numbers for any number of sources. An IPv6 source is
   searched by the word (32 bits) that tells most of them apart; what all have in common is compared once.
3. A program has at most `MAX_FILTER` instructions, the kernel's limit; `instructions_for` is an upper bound that can be
   asked before building. That is 3,200 IPv4 sources, and from 540 (nothing in common) to 1,200 (one /64) IPv6 sources.
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
LOAD_KEPT: Final = 0x60  # BPF_LD | BPF_MEM: a word of scratch memory
KEEP: Final = 0x02  # BPF_ST
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
_WORDS_V6: Final = (0, 1, 2, 3)
_PER_BUCKET_V4: Final = 4  # two returns, and a node of at most two instructions
_PER_SOURCE_V6: Final = 12  # alone at a leaf: four words compared (7), two returns and a drop, a node of at most two
_OVERHEAD: Final = 12
_OVERHEAD_V6: Final = 8

_Words = tuple[int, ...]


def admit_sources(sources: Collection[IPAddress]) -> Program:
    """Accepts packets from `sources`, drops the rest; `CloakError` if that does not fit."""
    program = _program(sources)
    if len(program) > MAX_FILTER:
        raise CloakError(
            f"{len(sources)} sources with open windows need {len(program)} filter instructions of {MAX_FILTER}",
            "use the nftables cloak, which holds any number",
        )
    return program


def instructions_of(sources: Collection[IPAddress]) -> int:
    """How long the program for exactly these sources is."""
    return len(_program(sources))


def _program(sources: Collection[IPAddress]) -> Program:
    plain = {plain_address(source) for source in sources}
    v4 = sorted(int(source) for source in plain if isinstance(source, IPv4Address))
    v6 = [_words(source.packed) for source in plain if not isinstance(source, IPv4Address)]
    if not plain:
        return DROP_ALL
    six = [Instruction(JUMP_EQUAL, 1, 0, 6), DROP, *_keep_v6(), *_branch_v6(v6, _WORDS_V6)] if v6 else [DROP]
    return (
        Instruction(LOAD_BYTE, 0, 0, NETWORK),
        Instruction(SHIFT_RIGHT, 0, 0, 4),
        Instruction(JUMP_EQUAL, 0, 1, 4),
        Instruction(JUMP, 0, 0, len(six)),
        *six,
        *(_branch_v4(v4) if v4 else [DROP]),
    )


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
    kept = _OVERHEAD_V6 if v6 else 0
    return _OVERHEAD + kept + v4 + _PER_BUCKET_V4 * -(-v4 // _BUCKET) + _PER_SOURCE_V6 * v6


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


def _branch_v6(addresses: Sequence[_Words], left: tuple[int, ...]) -> list[Instruction]:
    """Accepts if the words `left` are those of one of `addresses`, which agree in the others."""
    common = [word for word in left if len({address[word] for address in addresses}) == 1]
    code: list[Instruction] = []
    for word in common:
        code += [_load(word), Instruction(JUMP_EQUAL, 1, 0, addresses[0][word]), DROP]
    left = tuple(word for word in left if word not in common)
    if not left:
        return [*code, ACCEPT]
    best = max(left, key=lambda word: len({address[word] for address in addresses}))
    rest = tuple(word for word in left if word != best)
    ordered = sorted(addresses, key=lambda address: address[best])
    groups = [list(group) for _, group in groupby(ordered, key=lambda address: address[best])]
    return [*code, _load(best), *_tree_v6(best, rest, _leaves(groups))]


def _leaves(groups: Sequence[list[_Words]]) -> list[list[_Words]]:
    """Addresses that are alone with their value go together, `_BUCKET` at a leaf; those that share one stay apart."""
    leaves: list[list[_Words]] = []
    alone = False
    for group in groups:
        if len(group) == 1 and alone and len(leaves[-1]) < _BUCKET:
            leaves[-1].extend(group)
        else:
            leaves.append(list(group))
        alone = len(group) == 1
    return leaves


def _tree_v6(word: int, rest: tuple[int, ...], leaves: Sequence[list[_Words]]) -> list[Instruction]:
    """The accumulator holds `word`; each leaf begins with its lowest value."""
    if len(leaves) == 1:
        return _leaf_v6(word, rest, leaves[0])
    middle = len(leaves) // 2
    return _node(leaves[middle][0][word], _tree_v6(word, rest, leaves[:middle]), _tree_v6(word, rest, leaves[middle:]))


def _leaf_v6(word: int, rest: tuple[int, ...], addresses: Sequence[_Words]) -> list[Instruction]:
    value = addresses[0][word]
    if len(addresses) > 1 and addresses[1][word] == value:
        return [Instruction(JUMP_EQUAL, 1, 0, value), DROP, *_branch_v6(addresses, rest)]
    # One comparison each; behind them the other words of each; then where all of those end: DROP, ACCEPT.
    count, each = len(addresses), 2 * len(rest)
    end = count + 1 + each * count
    code = [
        Instruction(JUMP_EQUAL, (count - i + each * i) if rest else end - i, 0, address[word])
        for i, address in enumerate(addresses)
    ]
    code.append(DROP)
    for address in addresses:
        for other in rest:
            code.append(_load(other))
            to_drop = end - len(code) - 1
            code.append(Instruction(JUMP_EQUAL, to_drop + 1 if other == rest[-1] else 0, to_drop, address[other]))
    return [*code, DROP, ACCEPT]


def _keep_v6() -> list[Instruction]:
    """The source's words into scratch memory: the kernel's own form of a load from the packet is ten times as long."""
    return [
        step
        for word in _WORDS_V6
        for step in (Instruction(LOAD_WORD, 0, 0, _SOURCE_V6 + 4 * word), Instruction(KEEP, 0, 0, word))
    ]


def _load(word: int) -> Instruction:
    return Instruction(LOAD_KEPT, 0, 0, word)


def _words(packed: bytes) -> _Words:
    return tuple(int.from_bytes(packed[i : i + 4], "big") for i in range(0, 16, 4))
