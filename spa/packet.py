"""The knock: one UDP datagram, from bytes to `Knock` and back (docs/protocol, The knock).

Laws:

1. Every byte on the wire looks random to who has no key: a locator that changes each epoch, a nonce, a sealed rest.
2. A key is derived for one server by its name; a server can only be knocked with keys derived for it.
3. `open_knock(encode(knock, …)) == knock`, and whatever differs in one bit does not open.
4. Nothing is guessed: unknown versions, kinds and flags, a non-zero reserved byte, trailing bytes, a tunnel knock
   without session or another with one are refused, each with its own reason.
"""

import hmac
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.names import Name
from certs.secret import Secret
from spa.errors import DropReason, PacketError
from spa.limits import EPOCH_SECONDS, LOCATOR_BYTES, MAX_DATAGRAM, MAX_PAD, MIN_DATAGRAM, NONCE_BYTES, VERSION

IPAddress = IPv4Address | IPv6Address

KEY_BYTES: Final = 32
_INFO: Final = b"gloam knock v1"
_HEAD: Final = Struct(">BBBBQ16s16sHB")  # version kind flags reserved time_us session source port pad_len
_SEALED: Final = LOCATOR_BYTES + NONCE_BYTES
_ZERO: Final = bytes(16)
_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2: an IPv4 address as IPv6
_HIGHEST_TIME: Final = 2**64 - 1
_HIGHEST_PORT: Final = 65535


class KnockKind(IntEnum):
    """What the knocker wants to do behind the door."""

    ENROL = 1
    CONTROL = 2
    TUNNEL = 3


_KINDS: Final = {int(kind): kind for kind in KnockKind}


@dataclass(frozen=True, slots=True)
class Knock:
    """What a knock says. `source` None means "the address you see"; `session` is there exactly for tunnels."""

    kind: KnockKind
    time_us: int
    session: UUID | None
    source: IPAddress | None
    port: int

    def __post_init__(self) -> None:
        named = self.session is not None
        if named is not (self.kind is KnockKind.TUNNEL) or (self.session is not None and not self.session.int):
            msg = "a tunnel knock names its session, any other knock names none"
            raise ValueError(msg)
        if not 0 <= self.time_us <= _HIGHEST_TIME or not 1 <= self.port <= _HIGHEST_PORT:
            msg = f"time {self.time_us} or port {self.port} does not fit into a knock"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class KnockKey:
    """The two keys one knocker shares with one server, 32 bytes each."""

    locator_key: bytes = field(repr=False)
    seal_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.locator_key) != KEY_BYTES or len(self.seal_key) != KEY_BYTES:
            msg = f"a knock key is twice {KEY_BYTES} bytes"
            raise ValueError(msg)

    def to_bytes(self) -> bytes:
        """64 bytes: the locator key, then the seal key."""
        return self.locator_key + self.seal_key

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The key `to_bytes` gave; `ValueError` unless these are 64 bytes."""
        return cls(data[:KEY_BYTES], data[KEY_BYTES:])


def derive_key(secret: Secret, server: Name) -> KnockKey:
    """The key for knocking at `server`, from the knock secret of a device, gateway or invite."""
    hkdf = HKDF(algorithm=SHA256(), length=2 * KEY_BYTES, salt=str(server).encode(), info=_INFO)
    return KnockKey.from_bytes(hkdf.derive(secret.reveal()))


def epoch_of(time_us: int) -> int:
    """The epoch a time (microseconds since 1970) lies in."""
    return time_us // (EPOCH_SECONDS * 1_000_000)


def locator(key: KnockKey, epoch: int) -> bytes:
    """The 16 bytes by which a server finds the key of a knock of this epoch."""
    return locator_of(key.locator_key, epoch)


def locator_of(locator_key: bytes, epoch: int) -> bytes:
    """The same from the locator key alone; tables keep keys as bytes."""
    return hmac.digest(locator_key, (epoch % 2**64).to_bytes(8, "big"), "sha256")[:LOCATOR_BYTES]


def encode(knock: Knock, key: KnockKey, *, nonce: bytes, pad: bytes) -> bytes:
    """The datagram. `nonce` is 12 fresh random bytes, `pad` 0 to 96; `ValueError` for other lengths."""
    if len(nonce) != NONCE_BYTES or len(pad) > MAX_PAD:
        msg = f"a knock takes {NONCE_BYTES} bytes of nonce and at most {MAX_PAD} of padding"
        raise ValueError(msg)
    head = _HEAD.pack(
        VERSION,
        knock.kind,
        0,
        0,
        knock.time_us,
        _ZERO if knock.session is None else knock.session.bytes,
        _pack_address(knock.source),
        knock.port,
        len(pad),
    )
    where = locator(key, epoch_of(knock.time_us))
    return where + nonce + ChaCha20Poly1305(key.seal_key).encrypt(nonce, head + pad, where)


def open_knock(datagram: bytes, key: KnockKey) -> Knock:
    """What the datagram says, if `key` sealed it; `PacketError` with the reason otherwise."""
    return unseal(datagram, key.seal_key)


def unseal(datagram: bytes, seal_key: bytes) -> Knock:
    """The same from the seal key alone; tables keep keys as bytes."""
    if not MIN_DATAGRAM <= len(datagram) <= MAX_DATAGRAM:
        raise PacketError(DropReason.LENGTH)
    try:
        plain = ChaCha20Poly1305(seal_key).decrypt(
            datagram[LOCATOR_BYTES:_SEALED], datagram[_SEALED:], datagram[:LOCATOR_BYTES]
        )
    except InvalidTag:
        raise PacketError(DropReason.OPEN) from None
    version, kind_number, flags, reserved, time_us, session, source, port, pad_length = _HEAD.unpack_from(plain)
    kind = _KINDS.get(kind_number)
    if version != VERSION:
        raise PacketError(DropReason.VERSION)
    if kind is None:
        raise PacketError(DropReason.KIND)
    if flags:
        raise PacketError(DropReason.FLAGS)
    if reserved:
        raise PacketError(DropReason.RESERVED)
    if len(plain) != _HEAD.size + pad_length:
        raise PacketError(DropReason.TRAILING)
    if (session == _ZERO) is (kind is KnockKind.TUNNEL):
        raise PacketError(DropReason.SESSION)
    if not port:
        raise PacketError(DropReason.PORT)
    named = None if session == _ZERO else UUID(bytes=session)
    return Knock(kind, time_us, named, _unpack_address(source), port)


def plain_address(address: IPAddress) -> IPAddress:
    """The one form of an address: v4-mapped becomes IPv4, and an interface (``%eth0``) is no part of it."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or (IPv6Address(int(address)) if address.scope_id else address)
    return address


def _pack_address(address: IPAddress | None) -> bytes:
    if address is None:
        return _ZERO
    plain = plain_address(address)
    return _MAPPED + plain.packed if isinstance(plain, IPv4Address) else plain.packed


def _unpack_address(data: bytes) -> IPAddress | None:
    if data == _ZERO:
        return None
    if data.startswith(_MAPPED):
        return IPv4Address(data[len(_MAPPED) :])
    return IPv6Address(data)
