"""Who is at the other end of a request: what the certificate says, checked against what the database knows now.

Laws:

1. A certificate counts only while its key is the one last certified for its holder, and the holder is not revoked.
2. Whoever is refused is told one thing whatever the reason; the audit log has the true one.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never
from uuid import UUID

from aiohttp import web
from cryptography import x509
from sqlalchemy import select

from certs.names import Name, NameKind
from certs.verify import spki_sha256
from console.address import plain_host
from controller.audit.events import Event, HandshakeRefused
from controller.storage.engine import Storage
from controller.storage.models import Device, Gateway
from wire.messages import Refusal

NOT_WELCOME: Final = Refusal(
    code="not_welcome",
    sentence="this certificate is not accepted here any more",
    fix="ask your administrator; enrolling again needs a new invite",
)


@dataclass(frozen=True, slots=True)
class Invitee:
    """Somebody without a certificate, who knocked with an invite."""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device that is not revoked, with its present key."""

    id: UUID


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """A gateway of this perimeter, with its present key."""

    name: str


Peer = Invitee | KnownDevice | KnownGateway


def source_of(request: web.Request) -> str:
    """The address a request came from, in its one spelling: policies compare it with networks."""
    place = request.transport.get_extra_info("peername") if request.transport is not None else None
    return plain_host(str(place[0])) if place else ""


def device_of(request: web.Request) -> UUID:
    """The device that asks, in a handler for devices: the name its certificate proved, which the guard has checked."""
    name = request.transport.get_extra_info("peer") if request.transport is not None else None
    if not isinstance(name, Name) or name.kind is not NameKind.DEVICE:
        raise web.HTTPForbidden
    return UUID(name.id)


class Peers:
    """Identifies peers. `where` names this controller in the audit log."""

    def __init__(self, storage: Storage, note: Callable[[Event], None], where: str) -> None:
        self._storage = storage
        self._note = note
        self._where = where

    async def identify(self, request: web.Request) -> Peer | None:
        """Who asks; None, audited, for a certificate that does not count any more. Raises StorageUnavailable."""
        transport = request.transport
        name = transport.get_extra_info("peer") if transport is not None else None
        certificate = transport.get_extra_info("peer_certificate") if transport is not None else None
        if name is None and certificate is None:
            return Invitee()
        if not isinstance(name, Name) or not isinstance(certificate, x509.Certificate):
            self.refused(request, "no_name")
            return None
        peer, reason = await self._look_up(name, spki_sha256(certificate))
        if reason is not None:
            self.refused(request, reason)
            return None
        return peer

    def refused(self, request: web.Request, reason: str) -> None:
        """Records that a request was refused for who asked, and truly why."""
        name = request.transport.get_extra_info("peer") if request.transport is not None else None
        self._note(
            HandshakeRefused(
                where=self._where,
                source=source_of(request),
                code=reason,
                detail=f"{request.method} {request.path}",
                presented=str(name or ""),
            )
        )

    async def _look_up(self, name: Name, key: bytes) -> tuple[Peer | None, str | None]:
        """The peer of that name, or why not."""
        match name.kind:
            case NameKind.DEVICE:
                return KnownDevice(UUID(name.id)), await self._device(UUID(name.id), key)
            case NameKind.GATEWAY:
                return KnownGateway(name.id), await self._gateway(name.id, key)
            case NameKind.CONTROLLER | NameKind.SESSION:
                return None, "wrong_kind"
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _device(self, identifier: UUID, key: bytes) -> str | None:
        async with self._storage.read() as db:
            row = (
                await db.execute(select(Device.key_sha256, Device.revoked_at).where(Device.id == identifier))
            ).one_or_none()
        if row is None:
            return "device_unknown"
        if row.revoked_at is not None:
            return "device_revoked"
        return None if hmac.compare_digest(row.key_sha256, key) else "key_replaced"

    async def _gateway(self, name: str, key: bytes) -> str | None:
        async with self._storage.read() as db:
            row = (await db.execute(select(Gateway.key_sha256).where(Gateway.name == name))).one_or_none()
        if row is None or row.key_sha256 is None:
            return "gateway_unknown"
        return None if hmac.compare_digest(row.key_sha256, key) else "key_replaced"
