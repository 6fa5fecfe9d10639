"""Enrolment: an invitee becomes a device or a gateway.

Laws:

1. One invite makes one device, whatever happens at once: it is consumed by a conditional UPDATE of exactly one row, in
   the transaction that creates the device.
2. The proof binds the invite to this TLS connection and this signing request. Without a right proof every invite is
   refused with one text, known or not: nothing can be learnt by asking.
3. Whoever proves that they hold the invite is told what is wrong with it. The audit log has the true reason always.
4. A request that cannot be signed does not consume the invite.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, update

from certs.errors import BadCertificate
from certs.names import NameKind
from certs.secret import Secret
from console.address import HostPort
from controller.audit.events import DeviceEnrolled, Event, GatewayJoined, InviteRefused
from controller.authority.authority import Authority, Issued
from controller.devices import sealed
from controller.devices.keys import KnockKeys
from controller.directory.service import bump_revision
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, Gateway, Invite, User
from wire.invite import InvitePurpose, enrol_proof
from wire.messages import Address, ControllerAddress, EnrolReply, EnrolRequest, Refusal

ASK: Final = "ask your administrator for a new invite"
STRANGER: Final = Refusal(code="invite_refused", sentence="this invite is not good here", fix=ASK)
USED: Final = Refusal(code="invite_used", sentence="this invite was used already", fix=ASK)
EXPIRED: Final = Refusal(code="invite_expired", sentence="this invite has expired", fix=ASK)
BLOCKED: Final = Refusal(code="invite_blocked", sentence="whom this invite is for may not enrol", fix=ASK)


@dataclass(frozen=True, slots=True)
class _Invitation:
    """What an invite's row says, with its secret, and whom it is for."""

    id: UUID
    purpose: InvitePurpose
    secret: Secret
    expires_at: datetime
    used: bool
    user: User | None
    gateway: Gateway | None
    issuer: str | None  # whoever logs in there first becomes the device's owner

    @property
    def blocked(self) -> bool:
        """Nobody this invite is for may enrol."""
        if self.purpose is InvitePurpose.GATEWAY:
            return self.gateway is None
        if self.issuer is not None:
            return False
        return self.user is None or self.user.disabled_at is not None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long the certificates of enrolment live."""

    device: timedelta
    service: timedelta


class _Lost(Exception):  # noqa: N818 - it rolls a transaction back, and is an answer
    """The invite does not count, or not any more: another request was faster, or an administrator."""

    def __init__(self, reason: str, refusal: Refusal) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refusal = refusal


class Enrolment:
    """Answers `POST /v1/enrol`. `changed` is awaited after each enrolment: the directory is another one then."""

    def __init__(
        self,
        *,
        storage: Storage,
        authority: Authority,
        keys: KnockKeys,
        controllers: Sequence[ControllerAddress],
        lifetimes: Lifetimes,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
        changed: Callable[[], Awaitable[object]],
        approve: bool = True,
        limit: int = 10,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._keys = keys
        self._controllers = tuple(controllers)
        self._lifetimes = lifetimes
        self._note = note
        self._clock = clock
        self._changed = changed
        self._approve = approve
        self._limit = limit

    async def enrol(self, request: EnrolRequest, *, binding: bytes, source: str) -> EnrolReply | Refusal:
        """`binding` is the TLS exporter of the request's connection (wire.invite). Raises StorageUnavailable."""
        now = self._clock()
        invitation = await self._find(request.invite)
        try:
            invitation = _welcome(invitation, request, binding, now)
            if invitation.user is not None or invitation.issuer is not None:
                return await self._enrol_device(request, invitation, invitation.user, source, now)
            if invitation.gateway is not None:
                return await self._enrol_gateway(request, invitation, invitation.gateway, source, now)
            return self._refused(request, source, "blocked", BLOCKED)
        except BadCertificate as error:
            refusal = Refusal(
                code="bad_csr", sentence=str(error), fix="update gloam and try again with the same invite"
            )
            return self._refused(request, source, str(error.reason), refusal)
        except _Lost as lost:
            return self._refused(request, source, lost.reason, lost.refusal)

    async def _find(self, identifier: UUID) -> _Invitation | None:
        async with self._storage.read() as db:
            row = await db.get(Invite, identifier)
            if row is None:
                return None
            user = await db.get(User, row.user_id) if row.user_id else None
            gateway = await db.get(Gateway, row.gateway_id) if row.gateway_id else None
        return _Invitation(
            id=row.id,
            purpose=InvitePurpose(row.purpose),
            secret=self._storage.sealer.open(row.sealed_secret, sealed.invite_secret(row.id)),
            expires_at=row.expires_at,
            used=row.used_at is not None,
            user=user,
            gateway=gateway,
            issuer=row.provider_issuer,
        )

    async def _enrol_device(
        self, request: EnrolRequest, invitation: _Invitation, user: User | None, source: str, now: datetime
    ) -> EnrolReply:
        device, secret = uuid4(), Secret.fresh()
        name = self._authority.name(NameKind.DEVICE, device)
        issued = self._authority.issue(name, request.csr, now=now, lifetime=self._lifetimes.device)
        async with self._storage.change() as change:
            await _consume(change, invitation, now)
            if user is not None:
                await _still_allowed(change, user)
                await self._within_limit(change, user)
            change.db.add(
                Device(
                    id=device,
                    user_id=None if user is None else user.id,
                    provider_issuer=invitation.issuer,
                    name=shown(request.device_name),
                    platform=shown(request.platform),
                    sealed_knock_secret=self._storage.sealer.seal(secret, sealed.device_knock(device)),
                    key_sha256=issued.key_sha256,
                    certified_until=issued.valid_until,
                    issuer_id=issued.issuer,
                    created_at=now,
                    approved_at=now if self._approve else None,
                    last_seen_at=None,
                    revoked_at=None,
                )
            )
            await bump_revision(change)
            change.record(
                DeviceEnrolled(
                    device=device,
                    user="" if user is None else user.name,
                    invite=invitation.id,
                    name=shown(request.device_name),
                    platform=shown(request.platform),
                    source=source,
                )
            )
        self._keys.drop_invite(invitation.id)
        self._keys.put(f"device/{device}", [secret], issued.valid_until)
        await self._changed()
        return self._reply(str(device), "" if user is None else user.name, issued, secret)

    async def _enrol_gateway(
        self, request: EnrolRequest, invitation: _Invitation, gateway: Gateway, source: str, now: datetime
    ) -> EnrolReply:
        secret = Secret.fresh()
        listen, knock, told = map(HostPort.parse, (gateway.listen, gateway.knock, gateway.advertise))
        name = self._authority.name(NameKind.GATEWAY, gateway.name)
        hosts = [told.host]
        issued = self._authority.issue(name, request.csr, now=now, lifetime=self._lifetimes.service, hosts=hosts)
        async with self._storage.change() as change:
            await _consume(change, invitation, now)
            joined = (
                update(Gateway)
                .where(Gateway.id == gateway.id)
                .values(
                    sealed_knock_secret=self._storage.sealer.seal(secret, sealed.gateway_knock(gateway.id)),
                    key_sha256=issued.key_sha256,
                    certified_until=issued.valid_until,
                    sealed_next_knock_secret=None,  # of a renewal before it joined again
                    next_key_sha256=None,
                    next_issuer_id=None,
                    next_certified_until=None,
                    issuer_id=issued.issuer,
                    enrolled_at=now,
                )
            )
            if not await changed_one(change.db, joined):
                raise _Lost("gateway_removed", BLOCKED)
            await bump_revision(change)
            change.record(GatewayJoined(gateway=gateway.name, invite=invitation.id, source=source))
        self._keys.drop_invite(invitation.id)
        self._keys.put(f"gateway/{gateway.name}", [secret], issued.valid_until)
        await self._changed()
        reply = self._reply(gateway.name, "", issued, secret)
        return reply.model_copy(
            update={
                "listen": Address(host=listen.host, port=listen.port),
                "knock": Address(host=knock.host, port=knock.port),
                "advertise": Address(host=told.host, port=told.port),
            }
        )

    async def _within_limit(self, change: Change, user: User) -> None:
        """Raises _Lost, and leaves the invite unused, if the person has as many devices as anybody may."""
        query = select(func.count()).where(Device.user_id == user.id, Device.revoked_at.is_(None))
        if (await change.db.scalar(query) or 0) >= self._limit:
            sentence = f"{user.name} has {self._limit} devices, and more are not allowed"
            fix = "have one that is not used any more revoked, then use the same invite"
            raise _Lost("too_many_devices", Refusal(code="too_many_devices", sentence=sentence, fix=fix))

    def _reply(self, identifier: str, user: str, issued: Issued, secret: Secret) -> EnrolReply:
        return EnrolReply(
            id=identifier,
            user=user,
            certificate=issued.chain_pem,
            trust=self._authority.trust_pem,
            knock_secret=secret.reveal(),
            controllers=self._controllers,
            time=self._clock(),
        )

    def _refused(self, request: EnrolRequest, source: str, reason: str, refusal: Refusal) -> Refusal:
        self._note(InviteRefused(invite=request.invite, source=source, code=reason))
        return refusal


def _welcome(invitation: _Invitation | None, request: EnrolRequest, binding: bytes, now: datetime) -> _Invitation:
    """The invitation, if it counts and its proof does; else _Lost. Only who has the secret learns more than "no"."""
    if invitation is None:
        raise _Lost("unknown", STRANGER)
    proof = enrol_proof(invitation.secret, binding, request.csr.encode())
    if not hmac.compare_digest(proof, request.proof):
        raise _Lost("forged", STRANGER)
    if invitation.used:
        raise _Lost("used", USED)
    if invitation.expires_at <= now:
        raise _Lost("expired", EXPIRED)
    if invitation.blocked:
        raise _Lost("blocked", BLOCKED)
    return invitation


async def _consume(change: Change, invitation: _Invitation, now: datetime) -> None:
    """Uses the invite up, or raises _Lost: whoever changes the row first is the only one (law 1)."""
    unused = (Invite.id == invitation.id, Invite.used_at.is_(None), Invite.expires_at > now)
    if not await changed_one(change.db, update(Invite).where(*unused).values(used_at=now)):
        raise _Lost("used_meanwhile", USED)


async def _still_allowed(change: Change, user: User) -> None:
    """The user may have been disabled since the invite was looked at.

    Their row is locked: two enrolments at once count their devices one after the other.
    """
    allowed = select(User.id).where(User.id == user.id, User.disabled_at.is_(None)).with_for_update()
    if await change.db.scalar(allowed) is None:
        raise _Lost("user_disabled", BLOCKED)


def shown(text: str) -> str:
    """What a device says of itself, without the control characters that would play with somebody's terminal."""
    return "".join(character for character in text if character.isprintable()).strip()
