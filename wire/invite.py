"""Invites: the one line of text that lets a stranger knock, find the right controller and prove who sent them.

Laws:

1. An invite is `gloam-invite-v1.` and base64url of packed bytes that end with a checksum; anything else is `BadInvite`.
   The checksum is for people who copy half a line, not against forgers: those lack the secret.
2. The encoding is canonical: no two texts are the same invite, and trailing bytes are an error.
3. An `Invite` that exists is valid: construction checks what parsing checks.
4. The secret never crosses the network. Two keys come of it by HKDF: one to knock with, one to prove enrolment with.
5. The proof covers the TLS connection (its exporter) and the signing request, so it is worth nothing anywhere else.

The packed bytes, big-endian: purpose u8 (1 device, 2 gateway), id 16, expires u64 (unix seconds), root SPKI SHA-256
32, secret 32, domain, subject, count u8 and that many controllers: name, TLS host, port u16, knock host, port u16.
Texts are a length u8 and ASCII; a knock host of length 0 is the TLS host again. Then the checksum: the first 4 bytes of
SHA-256(prefix ‖ the bytes).
"""

import base64
import binascii
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from certs.errors import BadName
from certs.names import Name, NameKind, parse_domain, parse_label
from certs.secret import Secret
from wire.errors import LocalError, RemoteError
from wire.messages import USER, Address, ControllerAddress

PREFIX: Final = "gloam-invite-v1."
MAX_TEXT: Final = 16_384
"""Sixteen controllers with the longest names and hosts stay under it; a paste of something else is never parsed."""
MAX_CONTROLLERS: Final = 16

BINDING_LABEL: Final = b"EXPORTER-gloam-enrol-v1"
"""The exporter's label (RFC 8446 section 7.5) for the enrolment proof; its context is empty."""
BINDING_BYTES: Final = 32
SECRET_BYTES: Final = 32

_HEAD: Final = struct.Struct(">B16sQ32s32s")
_CHECKSUM: Final = 4
_LONGEST_PART: Final = 255
_VERSION: Final = re.compile(r"gloam-invite-v[0-9]")
_SPACE: Final = re.compile(r"\s+")
_LAST_SECOND: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


class BadInvite(RemoteError):  # noqa: N818 - reads as what it is
    """Text that is no invite; `str()` says what is wrong with it, `fix` what helps."""

    def __init__(self, sentence: str, fix: str = "copy the whole line again, or ask for a new invite") -> None:
        super().__init__(sentence)
        self.fix = fix


class InvitePurpose(StrEnum):
    """What an invite makes of whoever uses it."""

    DEVICE = "device"
    GATEWAY = "gateway"


_CODES: Final = {InvitePurpose.DEVICE: 1, InvitePurpose.GATEWAY: 2}
_PURPOSES: Final = {code: purpose for purpose, code in _CODES.items()}


@dataclass(frozen=True)
class Invite:
    """`subject` is the user's name or the gateway's; `root_spki_sha256` pins the root; `controllers` are best first.

    `expires` is kept in UTC and whole seconds.
    """

    id: UUID
    purpose: InvitePurpose
    subject: str
    domain: str
    controllers: tuple[ControllerAddress, ...]
    root_spki_sha256: bytes
    expires: datetime
    secret: Secret = field(repr=False)

    def __post_init__(self) -> None:
        parse_domain(self.domain)
        if self.purpose is InvitePurpose.GATEWAY:
            parse_label(self.subject, "gateway name")
        elif not re.fullmatch(USER.strip("^$"), self.subject):
            raise LocalError("an invite for a device names its user")
        if not 1 <= len(self.controllers) <= MAX_CONTROLLERS:
            raise LocalError(f"an invite names 1 to {MAX_CONTROLLERS} controllers")
        if len(self.root_spki_sha256) != hashlib.sha256().digest_size:
            raise LocalError("an invite pins the root by 32 bytes")
        if len(self.secret) != SECRET_BYTES:
            raise LocalError(f"an invite's secret is {SECRET_BYTES} bytes")
        if self.expires.tzinfo is None:
            raise LocalError("an invite's expiry needs a time zone")
        object.__setattr__(self, "expires", self.expires.astimezone(UTC).replace(microsecond=0))

    def name_of(self, controller: ControllerAddress) -> Name:
        """The name that `controller` has to prove, and that knocks at it are derived for."""
        return Name(self.domain, NameKind.CONTROLLER, controller.name)


def encode_invite(invite: Invite) -> str:
    """The line to hand over, in secret."""
    head = _HEAD.pack(
        _CODES[invite.purpose],
        invite.id.bytes,
        int(invite.expires.timestamp()),
        invite.root_spki_sha256,
        invite.secret.reveal(),
    )
    parts = [head, _text(invite.domain), _text(invite.subject), bytes([len(invite.controllers)])]
    parts += [_packed_controller(controller) for controller in invite.controllers]
    data = b"".join(parts)
    return PREFIX + base64.urlsafe_b64encode(data + _checksum(data)).rstrip(b"=").decode()


def parse_invite(text: str) -> Invite:
    """The invite that `text` is; spaces and line ends that mail programs add do no harm. Raises BadInvite."""
    if len(text) > MAX_TEXT:
        raise BadInvite(f"an invite is at most {MAX_TEXT} characters long")
    text = _SPACE.sub("", text)
    if not text:
        raise BadInvite("the invite is empty", "paste the line that begins with gloam-invite-")
    if not text.startswith(PREFIX):
        if _VERSION.match(text):
            raise BadInvite("this invite is of a version unknown here", "update gloam, or the controller")
        raise BadInvite("this is not an invite", "paste the line that begins with gloam-invite-")
    data = _decoded(text.removeprefix(PREFIX))
    try:
        return _unpacked(_Cursor(data))
    except (BadName, LocalError, ValidationError, ValueError, KeyError):
        raise BadInvite("this invite is whole, but no controller writes such a one", "ask for a new invite") from None


def invite_knock_secret(secret: Secret) -> Secret:
    """What the knock key of an invite is derived from (as a device's is from its knock secret): 32 bytes."""
    return Secret(_derived(secret, b"gloam invite knock v1"))


def enrol_proof(secret: Secret, binding: bytes, csr: bytes) -> bytes:
    """Proof, 32 bytes, that the sender of `csr` (PEM) on the connection with this exporter `binding` has the invite."""
    if len(binding) != BINDING_BYTES:
        raise LocalError(f"a binding is {BINDING_BYTES} bytes of the TLS exporter")
    return hmac.digest(_derived(secret, b"gloam enrol proof v1"), binding + csr, "sha256")


def _derived(secret: Secret, info: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise LocalError(f"an invite's secret is {SECRET_BYTES} bytes")
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret.reveal())


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + data).digest()[:_CHECKSUM]


def _decoded(encoded: str) -> bytes:
    damaged = BadInvite("this invite was damaged or cut short on the way")
    try:
        whole = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise damaged from None
    if base64.urlsafe_b64encode(whole).rstrip(b"=").decode() != encoded:  # low bits that decode away
        raise damaged
    data, checksum = whole[:-_CHECKSUM], whole[-_CHECKSUM:]
    if not data or not hmac.compare_digest(_checksum(data), checksum):
        raise damaged
    return data


def _text(text: str) -> bytes:
    encoded = text.encode("ascii")
    if len(encoded) > _LONGEST_PART:
        raise LocalError(f"a part of an invite is at most {_LONGEST_PART} characters")
    return bytes([len(encoded)]) + encoded


def _packed_controller(controller: ControllerAddress) -> bytes:
    tls, knock = controller.tls, controller.knock
    same = knock.host == tls.host
    return b"".join(
        (
            _text(controller.name),
            _text(tls.host),
            tls.port.to_bytes(2, "big"),
            _text("" if same else knock.host),
            knock.port.to_bytes(2, "big"),
        )
    )


class _Cursor:
    """Takes bytes off the front; ValueError when there are not enough."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        piece = self._data[self._at : self._at + length]
        if len(piece) != length:
            raise ValueError("cut short")
        self._at += length
        return piece

    def text(self) -> str:
        return self.take(self.take(1)[0]).decode("ascii")

    def port(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("trailing bytes")


def _unpacked(cursor: _Cursor) -> Invite:
    code, identifier, expires, root, secret = _HEAD.unpack(cursor.take(_HEAD.size))
    domain, subject = cursor.text(), cursor.text()
    controllers = tuple(_unpacked_controller(cursor) for _ in range(cursor.take(1)[0]))
    cursor.end()
    if expires > _LAST_SECOND:
        raise ValueError("not a time")
    return Invite(
        id=UUID(bytes=identifier),
        purpose=_PURPOSES[code],
        subject=subject,
        domain=domain,
        controllers=controllers,
        root_spki_sha256=root,
        expires=datetime.fromtimestamp(expires, UTC),
        secret=Secret(secret),
    )


def _unpacked_controller(cursor: _Cursor) -> ControllerAddress:
    name, host = cursor.text(), cursor.text()
    tls = Address(host=host, port=cursor.port())
    other = cursor.text()
    if other == host:
        raise ValueError("a host written twice: there is one way to write each invite")
    return ControllerAddress(name=name, tls=tls, knock=Address(host=other or host, port=cursor.port()))
