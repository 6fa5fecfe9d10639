"""What both ends of a passkey must agree on: the relying party, the origin, and what a challenge is bound to (pure).

A passkey is asked for by a page that the command `gloam` serves on loopback, so every perimeter has the same relying
party, `localhost`: the browser cannot tell perimeters apart. The challenge does instead.

Laws:

1. A challenge is 32 random bytes and then 32 bytes that say whom it is for: what it is asked for, the perimeter (its
   domain and root) and the device, by its id and the key its certificate has.
2. A controller accepts only its own challenge, and a client shows only one that is for its own perimeter and device. So
   no controller can hand on another's challenge: it would need that device's key.
3. A person's handle in an authenticator is another in each perimeter.
"""

import hashlib
from enum import StrEnum
from typing import Final
from uuid import UUID

RP_ID: Final = "localhost"
"""The relying party of a page on loopback (WebAuthn section 5.1.2: the origin's domain, or a suffix of it)."""

NONCE_BYTES: Final = 32
CHALLENGE_BYTES: Final = 64
HANDLE_BYTES: Final = 32


class Purpose(StrEnum):
    """What a passkey is asked for."""

    LOGIN = "login"
    REGISTRATION = "registration"


def origin(port: int) -> str:
    """The origin of a page served on that port of loopback, as browsers write it."""
    return f"http://{RP_ID}:{port}"


def challenge(
    nonce: bytes, purpose: Purpose, *, domain: str, root_sha256: bytes, device: UUID, device_key_sha256: bytes
) -> bytes:
    """The challenge made of 32 random bytes, for one purpose on one device of one perimeter."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    parts = (purpose.encode(), domain.encode(), root_sha256, device.bytes, device_key_sha256)
    return nonce + _hash(b"gloam passkey challenge v1", nonce, *parts)


def user_handle(*, domain: str, root_sha256: bytes, user: UUID) -> bytes:
    """What authenticators know a person by: no name, and nothing another perimeter could tell."""
    return _hash(b"gloam passkey user v1", domain.encode(), root_sha256, user.bytes)


def _hash(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the parts, each behind its length, so that no two lists of parts look alike."""
    whole = hashlib.sha256()
    for part in (label, *parts):
        whole.update(len(part).to_bytes(4, "big") + part)
    return whole.digest()
