"""Fuzz target: the knock's bytes. First byte 0: a datagram as it comes; else plaintext that a key holder sealed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from spa.errors import DropReason, PacketError
from spa.limits import HEAD_BYTES, MAX_DATAGRAM, MAX_PAD, MIN_DATAGRAM, NONCE_BYTES
from spa.packet import KnockKey, encode, epoch_of, locator, open_knock
from tests.fuzz.target import Reached, Target

KEY: Final = KnockKey(bytes(range(32)), bytes(range(32, 64)))
NONCE: Final = bytes(range(NONCE_BYTES))
CIPHER: Final = ChaCha20Poly1305(KEY.seal_key)
VECTORS: Final = Path(__file__).parent.parent / "vectors" / "knock.json"


def check(data: bytes, reached: Reached) -> None:
    raw, body = data[:1] in {b"", b"\x00"}, data[1:]
    datagram = body if raw else sealed(body)
    try:
        knock = open_knock(datagram, KEY)
    except PacketError as error:
        reason = error.reason
        reached(reason)
        assert (reason is DropReason.LENGTH) is not (MIN_DATAGRAM <= len(datagram) <= MAX_DATAGRAM)
        assert raw or reason is not DropReason.OPEN
        return
    assert not raw, "bytes from nowhere opened"
    reached(knock.kind.name)
    # What opens is what would have been sent: there is one way to write each knock.
    assert encode(knock, KEY, nonce=NONCE, pad=body[HEAD_BYTES:]) == datagram


def sealed(plain: bytes) -> bytes:
    """The datagram a key holder makes of any plaintext, with the locator of the time it names."""
    where = locator(KEY, epoch_of(int.from_bytes(plain[4:12].ljust(8, b"\x00"), "big")))
    return where + NONCE + CIPHER.encrypt(NONCE, plain, where)


def seeds() -> Iterator[bytes]:
    head = bytes([1, 2, 0, 0]) + (1_800_000_000_000_000).to_bytes(8, "big")
    yield b"\x01" + head + bytes(32) + (8443).to_bytes(2, "big") + b"\x00"
    yield b"\x01" + head + bytes(16) + bytes(10) + b"\xff\xff\xc0\x00\x02\x07" + b"\x01\xbb" + b"\x03abc"
    yield b"\x01\x01\x03" + head[2:] + bytes(range(32)) + b"\x01\xbb" + bytes([MAX_PAD]) + bytes(MAX_PAD)
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        yield b"\x00" + bytes.fromhex(vector["datagram"])


TARGET: Final = Target(check, seeds, longest=1 + MAX_DATAGRAM + 16)
