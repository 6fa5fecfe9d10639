"""Who is at the other end of a request: what the certificate says, checked against what the database knows now.

Laws:

1. A certificate counts only while its key is the one that counts for its holder, or the next one, and the holder is not
   revoked. The first use of the next key is noticed before anything is answered: the one before is refused from then
   on.
   A connection may be older than the distrust of the intermediate that signed it, so that is looked at again, too.
2. Whoever is refused is told one thing whatever the reason; the audit log has the true one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from aiohttp import web
from cryptography import x509

from certs.names import Name, NameKind
from certs.verify import spki_sha256
from console.address import plain_host
from controller.audit.events import Event, HandshakeRefused
from controller.devices.holders import find
from controller.storage.engine import Storage

Used = Callable[[Name, bytes, str], Awaitable[None]]
"""Told that a holder came with its next key (SHA-256), from which address."""


@dataclass(frozen=True, slots=True)
class Invitee:
    """Somebody without a certificate: they knocked with an invite, or with the secret of one that has ended."""


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

    def __init__(
        self,
        storage: Storage,
        signed: Callable[[x509.Certificate], bool],
        note: Callable[[Event], None],
        where: str,
        used: Used,
        *,
        seen: Callable[[UUID], None],
    ) -> None:
        self._storage = storage
        self._signed = signed
        self._note = note
        self._where = where
        self._used = used
        self._seen = seen

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
        if not self._signed(certificate):
            self.refused(request, "wrong_issuer")
            return None
        peer, reason = await self._look_up(name, spki_sha256(certificate), source_of(request))
        if reason is not None:
            self.refused(request, reason)
            return None
        if isinstance(peer, KnownDevice):
            self._seen(peer.id)
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

    async def _look_up(self, name: Name, key: bytes, source: str) -> tuple[Peer | None, str | None]:
        """The peer of that name, or why not."""
        match name.kind:
            case NameKind.DEVICE:
                return KnownDevice(UUID(name.id)), await self._holder(name, key, source)
            case NameKind.GATEWAY:
                return KnownGateway(name.id), await self._holder(name, key, source)
            case NameKind.CONTROLLER | NameKind.SESSION:
                return None, "wrong_kind"
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _holder(self, name: Name, key: bytes, source: str) -> str | None:
        """Why this key does not count for its holder; None: it does."""
        async with self._storage.read() as db:
            holder = await find(db, name.kind, name.id)
        if holder is None:
            return f"{name.kind}_unknown"
        if holder.blocked == "device_revoked":
            return holder.blocked
        match holder.credentials.which(key):
            case None:
                return "key_replaced"
            case "next":
                await self._used(name, key, source)
            case "present":
                pass
        return None
