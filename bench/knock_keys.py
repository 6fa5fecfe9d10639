"""Devices that two processes can agree on without talking: everything follows from a seed and a number."""

import hmac
from dataclasses import dataclass
from uuid import UUID

from certs.names import Name, NameKind
from certs.secret import Secret
from spa.packet import KnockKey, derive_key

SERVER = Name("bench.test", NameKind.GATEWAY, "edge")


@dataclass(frozen=True, slots=True)
class Knocker:
    """A device with one session, and its key at `SERVER`."""

    device: UUID
    session: UUID
    key: KnockKey


def knocker(seed: bytes, number: int) -> Knocker:
    """The device of this number."""

    def made(what: str) -> bytes:
        return hmac.digest(seed, f"{what} {number}".encode(), "sha256")

    return Knocker(
        UUID(bytes=made("device")[:16], version=4),
        UUID(bytes=made("session")[:16], version=4),
        derive_key(Secret(made("secret")), SERVER),
    )
