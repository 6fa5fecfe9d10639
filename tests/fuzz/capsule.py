"""Fuzz target: a stream of capsules.

The first three bytes say in which pieces it arrives, the fourth how many capsules are taken at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.fuzz.target import Reached, Target, pieces
from wire.capsule import BadCapsule, CapsuleReader, decode_varint, encode_datagram, encode_varint
from wire.limits import MAX_DATAGRAM, MAX_UDP_PAYLOAD

CUTS: Final = 3
HEADS: Final = 8 + 8 + 8
"""Type, length and context id, each in its longest form: what an unfinished capsule has besides its payload."""


@dataclass(frozen=True)
class Read:
    """What a stream came to."""

    payloads: tuple[bytes, ...]
    skipped: int
    oversized: int
    unfinished: bool
    refused: str


def check(data: bytes, reached: Reached) -> None:
    cuts, most, sent = data[:CUTS], 1 + sum(data[CUTS : CUTS + 1]), data[CUTS + 1 :]
    whole = read([sent], len(sent) + 1, reached)
    arrived = read(pieces(sent, cuts), most, reached)
    assert arrived.refused == whole.refused, "the answer depends on how the bytes arrive"
    if not whole.refused:  # what came before a bad capsule may have been taken already, or not
        assert arrived == whole, "the answer depends on how the bytes arrive"
        again = read([encode_datagram(payload) for payload in whole.payloads], 1, reached)
        assert again == Read(whole.payloads, 0, 0, unfinished=False, refused="")
    integer = decode_varint(sent)
    if integer is not None:
        assert 1 <= integer[1] <= 8
        assert decode_varint(encode_varint(integer[0])) == (integer[0], len(encode_varint(integer[0])))
        assert len(encode_varint(integer[0])) <= integer[1]


def read(stream: list[bytes], most: int, reached: Reached) -> Read:
    """Feeds and takes as the tunnel does: all that is complete is taken before more is fed."""
    reader, payloads, refused = CapsuleReader(), list[bytes](), ""
    try:
        for piece in stream:
            reader.feed(piece)
            more = True
            while more:
                taken, more = reader.take(most)
                assert len(taken) <= most
                payloads += taken
            assert len(reader._held) <= MAX_DATAGRAM + HEADS, "what is kept has no bound"
    except BadCapsule as error:
        refused = "".join(char for char in str(error) if not char.isdigit())
        reached(refused)
    assert all(len(payload) <= min(MAX_DATAGRAM, MAX_UDP_PAYLOAD) for payload in payloads)
    reached(f"{bool(payloads)} {bool(reader.skipped)} {bool(reader.oversized)} {reader.unfinished}")
    return Read(tuple(payloads), reader.skipped, reader.oversized, reader.unfinished, refused)


def seeds() -> Iterator[bytes]:
    for stream in (
        encode_datagram(b"abc") + encode_datagram(b"") + encode_datagram(b"x" * 100),
        b"\x40\x00\x80\x00\x00\x04\x00abc",
        b"\x01\x04what" + encode_datagram(b"after it"),
        b"\x00\x05\x02else" + encode_datagram(b"after it"),
        b"\x00\x80\x01\x00\x02\x00" + bytes(300),
        b"\x00\x00",
        b"\xff" * 16,
        encode_datagram(bytes(MAX_DATAGRAM)),
    ):
        for cuts in (bytes(CUTS + 1), b"\x01\x01\x01\x00", b"\x07\x00\x0b\x02"):
            yield cuts + stream


TARGET: Final = Target(check, seeds, longest=MAX_DATAGRAM + 256, words=(b"\x00\x04\x00abc", b"\x40\x00", b"\xff\xfe"))
