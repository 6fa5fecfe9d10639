"""Capsules of a UDP tunnel (RFC 9297 §3, RFC 9298 §5), pure: bytes in, UDP payloads out, and back.

1. A DATAGRAM capsule with context id 0 is one UDP payload. Another context id or capsule type is nothing we know: it is
   skipped and counted (RFC 9297 §3.2, RFC 9298 §5), and nothing of it is kept.
2. Memory follows what has arrived, never what a length promises: at most one unfinished datagram of `MAX_DATAGRAM`.
3. A payload that no UDP header can describe, or a DATAGRAM capsule too short for its context id, ends the tunnel
   (RFC 9298 §5, RFC 9297 §3.3). One that is only larger than we carry is skipped and counted.
4. A stream that ends inside a capsule was cut short (RFC 9297 §3.3): `unfinished` says so.
"""

from typing import Final

from wire.errors import RemoteError
from wire.limits import MAX_DATAGRAM, MAX_UDP_PAYLOAD

DATAGRAM: Final = 0x00
UDP_PAYLOAD: Final = 0
_LENGTHS: Final = (1, 2, 4, 8)
_LARGEST: Final = ((1 << 6) - 1, (1 << 14) - 1, (1 << 30) - 1, (1 << 62) - 1)


class BadCapsule(RemoteError):  # noqa: N818 - reads as what it is
    """A capsule that ends the tunnel; `str()` says what is wrong with it."""


def encode_varint(value: int) -> bytes:
    """A QUIC variable-length integer (RFC 9000 §16) in its shortest form. Raises ValueError outside 0 to 2^62 - 1."""
    for bits, largest in enumerate(_LARGEST):
        if 0 <= value <= largest:
            length = _LENGTHS[bits]
            return (value | bits << (8 * length - 2)).to_bytes(length, "big")
    raise ValueError(f"{value} is no variable-length integer")


def decode_varint(data: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """The integer at `start` and where it ends, or None while it is incomplete. A long form is as good."""
    if start >= len(data):
        return None
    first = data[start]
    end = start + _LENGTHS[first >> 6]
    if end > len(data):
        return None
    value = first & 0x3F
    for byte in data[start + 1 : end]:
        value = value << 8 | byte
    return value, end


def encode_datagram(payload: bytes) -> bytes:
    """One UDP payload as a DATAGRAM capsule. Raises ValueError for a payload no UDP header can describe."""
    if len(payload) > MAX_UDP_PAYLOAD:
        raise ValueError(f"a UDP payload has at most {MAX_UDP_PAYLOAD} bytes")
    return b"\x00" + encode_varint(len(payload) + 1) + b"\x00" + payload


class CapsuleReader:
    """A stream of capsules: `feed` it bytes, then `take` what they complete."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skip = 0  # bytes of a capsule we do not want that are still to come
        self.skipped = 0  # capsules and contexts we do not know
        self.oversized = 0  # datagrams larger than we carry

    @property
    def unfinished(self) -> bool:
        """Whether the bytes so far end inside a capsule. Ask when `take` has nothing left."""
        return bool(self._held or self._skip)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """More of the stream; what belongs to a skipped capsule is not kept. `data` may be overwritten afterwards."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        self._held += data

    def take(self, most: int) -> tuple[list[bytes], bool]:
        """The UDP payloads among the next `most` capsules, in order, and whether there may be more of them.

        Raises BadCapsule; the stream is then of no more use.
        """
        payloads: list[bytes] = []
        at = 0
        again = True
        for _ in range(most):  # capsules that are skipped count too: a flood of them must not hold up the loop either
            found = _next(self._held, at)
            if found is None:
                again = False
                break
            wanted, start, end = found
            if wanted and end - start <= MAX_DATAGRAM:
                if end > len(self._held):
                    again = False
                    break
                payloads.append(bytes(self._held[start:end]))
            elif wanted:
                self.oversized += 1
            else:
                self.skipped += 1
            at = min(end, len(self._held))
            self._skip = end - at
        del self._held[:at]
        return payloads, again


def _next(held: bytearray, at: int) -> tuple[bool, int, int] | None:
    """The capsule at `at`: whether it is a UDP payload, where that begins and where it ends; None if not known yet."""
    kind = decode_varint(held, at)
    length = None if kind is None else decode_varint(held, kind[1])
    if kind is None or length is None:
        return None
    start, end = length[1], length[1] + length[0]
    if kind[0] != DATAGRAM:
        return False, start, end
    if start == end or (start < len(held) and start + _LENGTHS[held[start] >> 6] > end):
        raise BadCapsule("a DATAGRAM capsule is too short for its context id")
    context = decode_varint(held, start)
    if context is None:
        return None
    if context[0] != UDP_PAYLOAD:
        return False, start, end
    if end - context[1] > MAX_UDP_PAYLOAD:
        raise BadCapsule(f"a datagram of {end - context[1]} bytes: UDP has at most {MAX_UDP_PAYLOAD}")
    return True, context[1], end
