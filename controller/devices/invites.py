"""Invites: rows in the database, and the line of text that is handed over.

Laws:

1. The secret is made here, shown once inside the text, and stored sealed.
2. An invite can knock only after its row is committed (`publish`), and no more once it was withdrawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, select, update

from certs.secret import Secret
from controller.audit.events import ChangeMade, InviteCreated
from controller.devices import sealed
from controller.devices.keys import KnockKeys
from controller.errors import Refused
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Gateway, Provider, User
from controller.storage.models import Invite as Row
from wire.invite import Invite, InvitePurpose
from wire.messages import ControllerAddress


@dataclass(frozen=True, slots=True)
class InviteView:
    """An invite as administrators see it: for a device of `user` or of somebody of `provider`, or for `gateway`."""

    id: UUID
    purpose: str
    user: str | None
    gateway: str | None
    provider: str | None
    created_at: datetime
    expires_at: datetime


class Invites:
    """Makes invites of one perimeter. `controllers` are where invitees turn to; `root_sha256` is what they pin."""

    def __init__(
        self,
        *,
        storage: Storage,
        keys: KnockKeys,
        domain: str,
        root_sha256: bytes,
        controllers: Sequence[ControllerAddress],
        lifetime: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._domain = domain
        self._root_sha256 = root_sha256
        self._controllers = tuple(controllers)
        self._lifetime = lifetime
        self._clock = clock

    async def for_user(self, name: str, *, actor: str, lifetime: timedelta | None = None) -> Invite:
        """An invite for one device of this user. Raises Refused for a user there is not, or who is disabled."""
        async with self._storage.change() as change:
            user = await change.db.scalar(select(User).where(User.name == name))
            if user is None:
                raise Refused(
                    code="no_user",
                    what=f"there is no user {name}",
                    fix=f"add them first: gloam-controller user add {name}",
                )
            if user.disabled_at is not None:
                raise Refused(
                    code="user_disabled",
                    what=f"the user {name} is disabled",
                    fix=f"enable them first: gloam-controller user enable {name}",
                )
            invite = self.add(change, InvitePurpose.DEVICE, user.name, user_id=user.id, actor=actor, lifetime=lifetime)
        self.publish(invite)
        return invite

    async def for_provider(self, name: str, *, actor: str, lifetime: timedelta | None = None) -> Invite:
        """An invite for one device of whoever logs in on it at this provider first. Raises Refused: no_provider."""
        async with self._storage.change() as change:
            issuer = await change.db.scalar(select(Provider.issuer).where(Provider.name == name))
            if issuer is None:
                raise Refused(
                    code="no_provider",
                    what=f"there is no provider {name}",
                    fix="see: gloam-controller provider list",
                )
            invite = self.add(change, InvitePurpose.DEVICE, name, issuer=issuer, actor=actor, lifetime=lifetime)
        self.publish(invite)
        return invite

    async def for_gateway(self, name: str, *, actor: str, lifetime: timedelta | None = None) -> Invite:
        """An invite for this gateway, new or joining again. Raises Refused for a gateway there is not."""
        async with self._storage.change() as change:
            gateway = await change.db.scalar(select(Gateway).where(Gateway.name == name))
            if gateway is None:
                raise Refused(
                    code="no_gateway",
                    what=f"there is no gateway {name}",
                    fix=f"add it first: gloam-controller gateway add {name} …",
                )
            invite = self.add(
                change, InvitePurpose.GATEWAY, name, gateway_id=gateway.id, actor=actor, lifetime=lifetime
            )
        self.publish(invite)
        return invite

    def add(
        self,
        change: Change,
        purpose: InvitePurpose,
        subject: str,
        *,
        actor: str,
        user_id: UUID | None = None,
        gateway_id: UUID | None = None,
        issuer: str | None = None,
        lifetime: timedelta | None = None,
    ) -> Invite:
        """Adds an invite to a change of the caller's, who calls `publish` with it once the change is committed."""
        now = self._clock()
        invite = Invite(
            id=uuid4(),
            purpose=purpose,
            subject=subject,
            domain=self._domain,
            controllers=self._controllers,
            root_spki_sha256=self._root_sha256,
            expires=now + (self._lifetime if lifetime is None else lifetime),
            secret=Secret.fresh(),
        )
        change.db.add(
            Row(
                id=invite.id,
                purpose=purpose.value,
                user_id=user_id,
                gateway_id=gateway_id,
                provider_issuer=issuer,
                sealed_secret=self._storage.sealer.seal(invite.secret, sealed.invite_secret(invite.id)),
                created_at=now,
                expires_at=invite.expires,
                used_at=None,
            )
        )
        change.record(
            InviteCreated(
                actor=actor,
                invite=invite.id,
                purpose=purpose.value,
                user=subject if user_id else "",
                gateway=subject if gateway_id else "",
                provider=subject if issuer else "",
                expires_at=invite.expires,
            )
        )
        return invite

    async def open(self) -> list[InviteView]:
        """The invites that may still be used, the oldest first."""
        provider = func.coalesce(Provider.name, Row.provider_issuer)
        issued = select(Row, User.name, Gateway.name, provider).order_by(Row.created_at)
        owned = (
            issued.outerjoin(User, User.id == Row.user_id)
            .outerjoin(Gateway, Gateway.id == Row.gateway_id)
            .outerjoin(Provider, Provider.issuer == Row.provider_issuer)
        )
        async with self._storage.read() as db:
            found = (await db.execute(owned.where(*self._usable()))).all()
        return [
            InviteView(row.id, row.purpose, user, gateway, named, row.created_at, row.expires_at)
            for row, user, gateway, named in found
        ]

    async def withdraw(self, invite: UUID, *, actor: str) -> bool:
        """Nobody may use it any more; whether it could still be used."""
        async with self._storage.change() as change:
            usable = update(Row).where(Row.id == invite, *self._usable()).values(expires_at=self._clock())
            there = await changed_one(change.db, usable)
            if there:
                change.record(ChangeMade(actor=actor, what="invite.withdrawn", detail=str(invite)))
        self._keys.drop_invite(invite)
        return there

    def _usable(self) -> tuple[ColumnElement[bool], ...]:
        return Row.used_at.is_(None), Row.expires_at > self._clock()

    def publish(self, invite: Invite) -> None:
        """The invite is committed: let it knock."""
        self._keys.put_invite(invite.id, invite.secret, invite.expires)
