"""Who a provider's people are here: identities, the groups they come with, users made for them, devices they claim.

Laws:

1. An identity is issuer and subject. One of them is one user; only an administrator links it to a user there is.
2. A user is made for an identity only where the provider's registration says so, only on a device invited for that
   provider which nobody owns yet, and once: the device is claimed by a conditional UPDATE in the same transaction.
   So there is at most one new user an invite.
3. The groups of an issuer are exactly those its last word said; those an administrator named are not touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update

from controller.directory.lookup import find, not_found
from controller.directory.service import DirectoryChange, DirectoryService
from controller.errors import Refused
from controller.identity.oidc.rules import Registration
from controller.identity.oidc.tokens import LONGEST_SUBJECT
from controller.sessions.service import Sessions
from controller.storage import Storage
from controller.storage.conditional import changed_one
from controller.storage.models import (
    Device,
    FederatedIdentity,
    FederatedMembership,
    FederatedSession,
    Group,
    Provider,
    User,
)

UNLINKED: Final = "the identity this session was begun with is no longer this user's"


@dataclass(frozen=True, slots=True)
class IdentityView:
    """An identity as administrators see it."""

    user: str
    provider: str | None  # None: no provider of this issuer is registered now
    issuer: str
    subject: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database says about an identity and the device it came from."""

    user_id: UUID | None
    user: str
    disabled: bool
    owner: UUID | None
    invited: str | None  # the issuer whose people may claim the device
    revoked: bool


class NotClaimed(Exception):  # noqa: N818 - an answer that rolls a transaction back
    """Somebody was faster, or the name is taken; the argument is the code."""


class Identities:
    """Identities, for administrators and for logins."""

    def __init__(
        self,
        *,
        storage: Storage,
        directory: DirectoryService,
        sessions: Sessions,
        clock: Callable[[], datetime],
        device_limit: int,
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._sessions = sessions
        self._clock = clock
        self._device_limit = device_limit

    # Administrators

    async def link(self, user: str, provider: str, subject: str, *, actor: str) -> None:
        """From now on this subject of the provider is this user. Raises Refused: not_found, bad_subject, linked."""
        if not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
            raise Refused("bad_subject", "this is no subject", "copy `sub` from the provider, or from audit tail")
        async with self._directory.change(actor) as change:
            row = await find(change.db, User, user, "user")
            issuer = await _issuer(change, provider)
            same = (FederatedIdentity.issuer == issuer, FederatedIdentity.subject == subject)
            known = await change.db.scalar(select(FederatedIdentity.user_id).where(*same))
            if known == row.id:
                return
            if known is not None:
                fix = "unlink it there first: gloam-controller user unlink"
                raise Refused("linked", "this subject is another user's", fix)
            change.db.add(
                FederatedIdentity(id=uuid4(), issuer=issuer, subject=subject, user_id=row.id, created_at=self._clock())
            )
            change.record("user.linked", f"{user}; {issuer}; subject {subject}")

    async def unlink(self, user: str, provider: str | None, *, issuer: str | None = None, actor: str) -> int:
        """The user has no identity of this provider any more, nor groups and sessions of it; answers how many ended.

        An `issuer` may be named instead, whose provider was removed. Raises Refused: not_found, not_linked, bad_unlink.
        """
        async with self._directory.change(actor) as change:
            row = await find(change.db, User, user, "user")
            issuer = await _named(change, provider, issuer)
            mine = (FederatedIdentity.issuer == issuer, FederatedIdentity.user_id == row.id)
            # Taken before its sessions are looked for: a login that was under way has made its session, or never will.
            gone = delete(FederatedIdentity).where(*mine).returning(FederatedIdentity.subject)
            subjects = sorted(await change.db.scalars(gone))
            if not subjects:
                what = f"{user} has no identity of {provider or issuer}"
                raise Refused("not_linked", what, "see gloam-controller user links")
            begun = select(FederatedSession.session_id).where(
                FederatedSession.issuer == issuer, FederatedSession.subject.in_(subjects)
            )
            sessions = list(await change.db.scalars(begun))
            await _forget_groups(change, row.id, issuer)
            change.record("user.unlinked", f"{user}; {issuer}; subject {', '.join(subjects)}")
            live = {session.id for session in self._sessions.live()}.intersection(sessions)
        for session in live:
            await self._sessions.end(session, "unlinked", UNLINKED, actor)
        return len(live)

    async def listing(self, user: str | None = None) -> Sequence[IdentityView]:
        """Every identity, or those of one user. Raises Refused: not_found."""
        query = (
            select(FederatedIdentity, User.name, Provider.name)
            .join(User, User.id == FederatedIdentity.user_id)
            .outerjoin(Provider, Provider.issuer == FederatedIdentity.issuer)
            .order_by(User.name, FederatedIdentity.issuer, FederatedIdentity.subject)
        )
        async with self._storage.read() as db:
            if user is not None:
                query = query.where(User.id == (await find(db, User, user, "user")).id)
            rows = (await db.execute(query)).all()
        return [IdentityView(name, provider, row.issuer, row.subject, row.created_at) for row, name, provider in rows]

    # Logins

    async def standing(self, issuer: str, subject: str, device: UUID) -> Standing:
        """Whose this identity is, and whose the device."""
        same = (FederatedIdentity.issuer == issuer, FederatedIdentity.subject == subject)
        async with self._storage.read() as db:
            joined = select(User).join(FederatedIdentity, FederatedIdentity.user_id == User.id)
            user = await db.scalar(joined.where(*same))
            machine = await db.get(Device, device)
        return Standing(
            user_id=None if user is None else user.id,
            user="" if user is None else user.name,
            disabled=user is not None and user.disabled_at is not None,
            owner=None if machine is None else machine.user_id,
            invited=None if machine is None else machine.provider_issuer,
            revoked=machine is None or machine.revoked_at is not None,
        )

    async def user_of(self, issuer: str, subject: str) -> UUID | None:
        """The user this identity is."""
        same = (FederatedIdentity.issuer == issuer, FederatedIdentity.subject == subject)
        async with self._storage.read() as db:
            return await db.scalar(select(FederatedIdentity.user_id).where(*same))

    async def claim(self, device: UUID, issuer: str, subject: str, user: UUID | str) -> UUID:
        """The device becomes this user's, who is made first where `user` is a name; answers who. Raises NotClaimed."""
        async with self._directory.change(f"oidc/{issuer}") as change:
            if isinstance(user, str):
                user = await self._made(change, issuer, subject, user)
            theirs = select(func.count()).where(Device.user_id == user, Device.revoked_at.is_(None))
            if (await change.db.scalar(theirs) or 0) >= self._device_limit:
                raise NotClaimed("too_many_devices")
            free = (
                Device.id == device,
                Device.user_id.is_(None),
                Device.provider_issuer == issuer,
                Device.revoked_at.is_(None),
            )
            if not await changed_one(change.db, update(Device).where(*free).values(user_id=user)):
                raise NotClaimed("others_device")
            change.record("device.claimed", f"{device}; {issuer}; subject {subject}")
        return user

    async def _made(self, change: DirectoryChange, issuer: str, subject: str, name: str) -> UUID:
        now = self._clock()
        if await change.db.scalar(select(User.id).where(User.name == name)) is not None:
            raise NotClaimed("name_taken")
        same = (FederatedIdentity.issuer == issuer, FederatedIdentity.subject == subject)
        if await change.db.scalar(select(FederatedIdentity.id).where(*same)) is not None:
            raise NotClaimed("changed_meanwhile")
        user = User(id=uuid4(), name=name, password_hash=None, created_at=now, disabled_at=None)
        change.db.add(user)
        await change.db.flush()
        change.db.add(FederatedIdentity(id=uuid4(), issuer=issuer, subject=subject, user_id=user.id, created_at=now))
        change.record("user.added", f"{name}; made at the first login of {issuer}; subject {subject}")
        return user.id

    async def set_groups(self, user: UUID, registration: Registration, names: frozenset[str]) -> None:
        """The groups this issuer gives the user are exactly these, in force when this returns (law 3).

        None, and none are left, if the identity was unlinked or the provider removed while it was asked.
        """
        issuer = registration.issuer
        mine = (FederatedMembership.user_id == user, FederatedMembership.issuer == issuer)
        had = select(Group.name).join(FederatedMembership, FederatedMembership.group_id == Group.id).where(*mine)
        async with self._storage.read() as db:
            if set(await db.scalars(had)) == names:
                return
        async with self._directory.change(f"oidc/{registration.name}") as change:
            if not await _may_give(change, user, issuer):
                return
            groups = list(await change.db.scalars(select(Group).where(Group.name.in_(names)).order_by(Group.name)))
            await _forget_groups(change, user, issuer)
            change.db.add_all(FederatedMembership(user_id=user, group_id=each.id, issuer=issuer) for each in groups)
            name = await change.db.scalar(select(User.name).where(User.id == user))
            change.record("user.groups_given", f"{name}; groups: {', '.join(each.name for each in groups) or 'none'}")


async def _may_give(change: DirectoryChange, user: UUID, issuer: str) -> bool:
    """Whether the issuer's word still counts for the user. Locked: whoever ends that, takes the groups afterwards."""
    mine = (FederatedIdentity.issuer == issuer, FederatedIdentity.user_id == user)
    identities = select(FederatedIdentity.id).where(*mine).order_by(FederatedIdentity.id).with_for_update()
    provider = select(Provider.id).where(Provider.issuer == issuer).with_for_update(read=True)
    return bool((await change.db.scalars(identities)).all()) and await change.db.scalar(provider) is not None


async def _forget_groups(change: DirectoryChange, user: UUID, issuer: str) -> None:
    mine = (FederatedMembership.user_id == user, FederatedMembership.issuer == issuer)
    await change.db.execute(delete(FederatedMembership).where(*mine))


async def _named(change: DirectoryChange, provider: str | None, issuer: str | None) -> str:
    """The issuer that an administrator names, by its provider or by itself."""
    match provider, issuer:
        case None, str(issuer):
            return issuer
        case str(provider), None:
            try:
                return await _issuer(change, provider)
            except Refused as refused:
                fix = f"{refused.fix}; if it was removed, name its --issuer, as in gloam-controller user links"
                raise Refused(refused.code, refused.what, fix) from None
        case _:
            raise Refused("bad_unlink", "an identity is one provider's", "name --provider P or --issuer URL")


async def _issuer(change: DirectoryChange, provider: str) -> str:
    issuer = await change.db.scalar(select(Provider.issuer).where(Provider.name == provider))
    if issuer is None:
        raise not_found("provider", provider, await change.db.scalars(select(Provider.name)))
    return issuer
