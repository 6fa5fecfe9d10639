"""The knock a second time, from docs/protocol and the RFCs alone: nothing of gloam and no cryptographic library in it.

ChaCha20-Poly1305 is written out from RFC 8439, HKDF from RFC 5869. `python tests/spa/reference_knock.py` prints
tests/vectors/knock.json; a test compares. Slow, and not constant in time: for vectors only.
"""

import hashlib
import hmac
import json
import struct
import sys

MASK = 0xFFFF_FFFF
CLAMP = 0x0FFF_FFFC_0FFF_FFFC_0FFF_FFFC_0FFF_FFFF
PRIME = 2**130 - 5


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """RFC 8439 section 2.3."""
    start = [
        *struct.unpack("<4L", b"expand 32-byte k"),
        *struct.unpack("<8L", key),
        counter,
        *struct.unpack("<3L", nonce),
    ]
    state = list(start)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for x, y, z, shift in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & MASK
            mixed = state[z] ^ state[x]
            state[z] = ((mixed << shift) | (mixed >> (32 - shift))) & MASK

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16L", *((a + b) & MASK for a, b in zip(state, start, strict=True)))


def poly1305(key: bytes, message: bytes) -> bytes:
    """RFC 8439 section 2.5."""
    r, s = int.from_bytes(key[:16], "little") & CLAMP, int.from_bytes(key[16:], "little")
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i : i + 16] + b"\x01", "little")) * r % PRIME
    return ((total + s) % 2**128).to_bytes(16, "little")


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """RFC 8439 section 2.8."""
    blocks = (chacha20_block(key, 1 + i, nonce) for i in range(-(-len(plaintext) // 64)))
    sealed = bytes(a ^ b for a, b in zip(plaintext, b"".join(blocks), strict=False))
    padded = aad + bytes(-len(aad) % 16) + sealed + bytes(-len(sealed) % 16)
    tag = poly1305(chacha20_block(key, 0, nonce)[:32], padded + struct.pack("<QQ", len(aad), len(sealed)))
    return sealed + tag


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256."""
    key = hmac.new(salt, secret, hashlib.sha256).digest()
    block, out = b"", b""
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += block
    return out[:length]


SECRET = bytes(range(32))
SERVER = "spiffe://example.test/gateway/edge"
NOW = 1_800_000_000_000_000  # microseconds: early 2027, the first moment of an epoch
SESSION = bytes.fromhex("6f1d9d6e0b7a4c2f9d3e5a1b2c3d4e5f")
NONCE = bytes(range(100, 112))
ZERO = bytes(16)
SEEN = "192.0.2.7"
V4 = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])
V6 = bytes.fromhex("20010db8000000000000000000000007")


def knock(
    *,
    version: int = 1,
    kind: int = 2,
    flags: int = 0,
    reserved: int = 0,
    at: int = NOW,
    session: bytes = ZERO,
    source: bytes = ZERO,
    port: int = 8443,
    pad: bytes = b"",
    pad_len: int | None = None,
    tail: bytes = b"",
    secret: bytes = SECRET,
    server: str = SERVER,
    epoch: int | None = None,
    nonce: bytes = NONCE,
) -> bytes:
    """A datagram, field by field, right or wrong."""
    keys = hkdf(secret, server.encode(), b"gloam knock v1", 64)
    epoch = at // 1_000_000 // 900 if epoch is None else epoch
    locator = hmac.new(keys[:32], struct.pack(">Q", epoch), hashlib.sha256).digest()[:16]
    plain = struct.pack(">BBBBQ", version, kind, flags, reserved, at) + session + source + struct.pack(">H", port)
    plain += bytes([len(pad) if pad_len is None else pad_len]) + pad + tail
    return locator + nonce + seal(keys[32:], nonce, plain, locator)


def flip(datagram: bytes, index: int) -> bytes:
    return datagram[:index] + bytes([datagram[index] ^ 1]) + datagram[index + 1 :]


def vectors() -> list[dict[str, object]]:
    """Each names what it must come to: `admit`, or the reason of its drop."""
    good = knock()
    second = 1_000_000
    rows: list[tuple[str, str, bytes, dict[str, object]]] = [
        ("control", "admit", good, {}),
        ("enrol", "admit", knock(kind=1), {}),
        ("tunnel", "admit", knock(kind=3, session=SESSION), {}),
        ("longest padding", "admit", knock(pad=bytes(range(96))), {}),
        ("one byte of padding", "admit", knock(pad=b"\xff"), {}),
        ("names the IPv4 source seen", "admit", knock(source=V4), {}),
        ("names the IPv6 source seen", "admit", knock(source=V6), {"seen": "2001:db8::7"}),
        ("IPv4 source seen on a dual-stack socket", "admit", knock(source=V4), {"seen": "::ffff:192.0.2.7"}),
        ("120 s behind", "admit", knock(at=NOW - 120 * second), {}),
        ("120 s ahead", "admit", knock(at=NOW + 120 * second), {}),
        ("previous epoch's locator", "admit", knock(epoch=NOW // second // 900 - 1), {}),
        ("next epoch's locator", "admit", knock(epoch=NOW // second // 900 + 1), {}),
        ("a microsecond after the last one", "admit", knock(at=NOW + 1), {"after": [good]}),
        ("empty", "length", b"", {}),
        ("one byte short", "length", good[:-1], {}),
        ("one byte too long for any", "length", knock(pad=bytes(96)) + b"\x00", {}),
        ("another secret", "locator", knock(secret=bytes(32)), {}),
        ("another server", "locator", knock(server="spiffe://example.test/gateway/other"), {}),
        ("locator two epochs old", "locator", knock(epoch=NOW // second // 900 - 2), {}),
        ("locator two epochs ahead", "locator", knock(epoch=NOW // second // 900 + 2), {}),
        ("a bit of the locator", "locator", flip(good, 0), {}),
        ("a bit of the nonce", "open", flip(good, 16), {}),
        ("a bit of the ciphertext", "open", flip(good, 28), {}),
        ("a bit of the tag", "open", flip(good, len(good) - 1), {}),
        ("a byte after the tag", "open", good + b"\x00", {}),
        ("locator of another epoch put before it", "open", knock(epoch=NOW // second // 900 + 1)[:16] + good[16:], {}),
        ("version 0", "version", knock(version=0), {}),
        ("version 2", "version", knock(version=2), {}),
        ("kind 0", "kind", knock(kind=0), {}),
        ("kind 4", "kind", knock(kind=4), {}),
        ("a flag nobody knows", "flags", knock(flags=1), {}),
        ("reserved not zero", "reserved", knock(reserved=1), {}),
        ("trailing byte", "trailing", knock(tail=b"\x00"), {}),
        ("padding shorter than it says", "trailing", knock(pad=b"abc", pad_len=4), {}),
        ("padding longer than it says", "trailing", knock(pad=b"abc", pad_len=2), {}),
        ("pad_len 255", "trailing", knock(pad=bytes(96), pad_len=255), {}),
        ("tunnel without session", "session", knock(kind=3), {}),
        ("control with session", "session", knock(session=SESSION), {}),
        ("port 0", "port", knock(port=0), {}),
        ("the same again", "old_time", good, {"after": [good]}),
        ("the same time, another nonce", "old_time", knock(nonce=bytes(12)), {"after": [good]}),
        ("overtaken by the one after it", "admit", knock(at=NOW - 1), {"after": [good]}),
        ("overtaken, and the same again", "old_time", knock(at=NOW - 1), {"after": [good, knock(at=NOW - 1)]}),
        ("a second older", "admit", knock(at=NOW - second), {"after": [good]}),
        ("a microsecond more than a second older", "old_time", knock(at=NOW - second - 1), {"after": [good]}),
        ("overtaken by 15", "admit", knock(), {"after": [knock(at=NOW + each) for each in range(1, 16)]}),
        ("overtaken by 16", "old_time", knock(), {"after": [knock(at=NOW + each) for each in range(1, 17)]}),
        ("replayed after a refusal", "old_time", knock(port=22), {"after": [knock(port=22)]}),
        ("from before the start", "before_start", knock(at=NOW - 50 * second), {"started": NOW - 50 * second + 1}),
        ("the moment of the start", "admit", knock(at=NOW - 50 * second), {"started": NOW - 50 * second}),
        ("a microsecond too far behind", "clock_skew", knock(at=NOW - 120 * second - 1), {}),
        ("a microsecond too far ahead", "clock_skew", knock(at=NOW + 120 * second + 1), {}),
        ("enrol where only control is allowed", "kind_not_allowed", knock(kind=1), {"kinds": [2]}),
        ("enrol with a key for control", "kind_not_allowed", knock(kind=1), {"key_kinds": [2, 3]}),
        ("another port", "port", knock(port=22), {}),
        ("no such session", "lease", knock(kind=3, session=bytes(15) + b"\x01"), {}),
        ("names another source", "source", knock(source=V4), {"seen": "192.0.2.8"}),
        ("names an IPv6 source, seen from IPv4", "source", knock(source=V6), {}),
        ("names 0.0.0.0 as v4-mapped", "source", knock(source=bytes(10) + b"\xff\xff" + bytes(4)), {}),
    ]
    return [
        {
            "name": name,
            "expect": expect,
            "datagram": datagram.hex(),
            "seen": extra.get("seen", SEEN),
            "started_us": extra.get("started", 0),
            "kinds": extra.get("kinds", [1, 2, 3]),
            "key_kinds": extra.get("key_kinds", [1, 2, 3]),
            "after": [each.hex() for each in extra.get("after", [])],  # type: ignore[attr-defined]
        }
        for name, expect, datagram, extra in rows
    ]


def document() -> dict[str, object]:
    keys = hkdf(SECRET, SERVER.encode(), b"gloam knock v1", 64)
    return {
        "about": "Knocks and what admission makes of them at now_us; made by tests/spa/reference_knock.py",
        "secret": SECRET.hex(),
        "server": SERVER,
        "key": keys.hex(),
        "now_us": NOW,
        "port": 8443,
        "session": SESSION.hex(),
        "nonce": NONCE.hex(),
        "vectors": vectors(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=1) + "\n")
