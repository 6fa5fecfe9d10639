"""Users and groups.

Laws:

1. Users and groups are never removed and never renamed: policies and the audit log name them. Users are disabled.
2. A group is in at most one group, and never, however far up, in itself.
3. Passwords come in, are hashed outside any transaction, and are never recorded.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from controller.directory.lookup import find, label, must_be_new
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.identity import throttle
from controller.identity.authenticators import withdraw
from controller.storage import Storage
from controller.storage.models import BackupCode, Device, FederatedMembership, Group, Membership, Totp, User
from wire.messages import USER


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as administrators see it; ``groups`` are named for them or given by a provider, ``devices`` not revoked.

    ``backup_codes``: how many are left.
    """

    id: UUID
    name: str
    groups: tuple[str, ...]
    service: bool
    totp: bool
    backup_codes: int
    devices: int
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A user who was changed. `kind`: from person to service, or back; their sessions proved what the other needs."""

    id: UUID
    kind: bool


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as administrators see it."""

    id: UUID
    name: str
    parent: str | None
    members: tuple[str, ...]


class UserService:
    """What administrators do with users and groups; every change is in force when its call returns."""

    def __init__(
        self,
        storage: Storage,
        directory: DirectoryService,
        hash_password: Callable[[str, str], Awaitable[str]],
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._hash = hash_password
        self._clock = clock

    async def add(
        self,
        name: str,
        password: str | None,
        groups: Sequence[str] = (),
        *,
        service: bool | None = None,
        actor: str,
    ) -> UUID:
        """A new user; without a password, a service (models.User) unless it is said to be none.

        Raises Refused: bad_name, exists, not_found (a group), bad_password, weak_password.
        """
        if re.match(USER, name) is None or "\n" in name:
            fix = "use lowercase letters, digits, dots, hyphens, underscores and @, as in alice or alice@example.test"
            raise Refused("bad_name", f"{name[:80]!a} cannot be a user's name", fix)
        hashed = None if password is None else await self._hash(password, name)
        async with self._directory.change(actor) as change:
            await must_be_new(change.db, User, name, "user")
            service = password is None if service is None else service
            user = User(id=uuid4(), name=name, password_hash=hashed, service=service, created_at=self._clock())
            change.db.add(user)
            await change.db.flush()
            await _join(change.db, user, groups)
            kind = "; a service" if user.service else ""
            change.record("user.added", f"{name}{kind}; groups: {', '.join(sorted(set(groups))) or 'none'}")
        return user.id

    async def listing(self) -> list[UserView]:
        """Every user, by name."""
        async with self._storage.read() as db:
            groups: defaultdict[UUID, list[str]] = defaultdict(list)
            members = select(Membership.user_id, Group.name).join(Group, Group.id == Membership.group_id)
            given = select(FederatedMembership.user_id, Group.name).join(
                Group, Group.id == FederatedMembership.group_id
            )
            for user_id, group in await db.execute(members.union(given)):
                groups[user_id].append(group)
            totp = set(await db.scalars(select(Totp.user_id).where(Totp.confirmed_at.is_not(None))))
            devices = Counter(await db.scalars(select(Device.user_id).where(Device.revoked_at.is_(None))))
            codes = Counter(await db.scalars(select(BackupCode.user_id).where(BackupCode.used_at.is_(None))))
            rows = list(await db.scalars(select(User).order_by(User.name)))
        return [
            UserView(
                id=row.id,
                name=row.name,
                groups=tuple(sorted(groups.get(row.id, ()))),
                service=row.service,
                totp=row.id in totp,
                backup_codes=codes[row.id],
                devices=devices[row.id],
                disabled_at=row.disabled_at,
            )
            for row in rows
        ]

    async def disable(self, name: str, *, actor: str) -> UUID:
        """Nothing is allowed to this user any more. Raises Refused: not_found. Twice is once."""
        async with self._directory.change(actor) as change:
            user = await find(change.db, User, name, "user")
            await withdraw(change.db, user.id)
            if user.disabled_at is None:
                user.disabled_at = self._clock()
                change.record("user.disabled", name)
        return user.id

    async def enable(self, name: str, *, actor: str) -> UUID:
        """Undoes ``disable``. Raises Refused: not_found."""
        async with self._directory.change(actor) as change:
            user = await find(change.db, User, name, "user")
            if user.disabled_at is not None:
                user.disabled_at = None
                change.record("user.enabled", name)
        return user.id

    async def set(
        self,
        name: str,
        *,
        groups: Sequence[str] | None = None,
        password: str | None = None,
        no_password: bool = False,
        reset_totp: bool = False,
        service: bool | None = None,
        actor: str,
    ) -> Changed:
        """Changes what is given: all groups, the password; or forgets authenticator and codes. Raises Refused.

        A service has no password: `service` takes the one there is away.
        """
        hashed = None if password is None else await self._hash(password, name)
        async with self._directory.change(actor) as change:
            user = await find(change.db, User, name, "user")
            if groups is not None:
                await change.db.execute(delete(Membership).where(Membership.user_id == user.id))
                await _join(change.db, user, groups)
                change.record("user.groups_set", f"{name}; groups: {', '.join(sorted(set(groups))) or 'none'}")
            kind = service is not None and service != user.service
            if service is not None and kind:
                user.service = service
                change.record("user.service_set", f"{name}; {'a service' if service else 'a person'}")
            if hashed is not None and user.service:
                raise Refused("bad_kind", f"{name} is a service, which has no password", "make it a person: --person")
            if hashed is not None:
                user.password_hash = hashed
                change.record("user.password_set", name)
            if (no_password or user.service) and user.password_hash is not None:
                user.password_hash = None
                change.record("user.password_taken", name)
            if hashed is not None or no_password or reset_totp or kind:
                await withdraw(change.db, user.id)
            if reset_totp:
                await change.db.execute(delete(Totp).where(Totp.user_id == user.id))
                await change.db.execute(delete(BackupCode).where(BackupCode.user_id == user.id))
                change.record("user.totp_reset", name)
        return Changed(user.id, kind)

    async def unlock(self, name: str, *, actor: str) -> int:
        """Forgets what was guessed wrong at this account, from whatever device. Raises Refused: not_found."""
        async with self._directory.change(actor) as change:
            user = await find(change.db, User, name, "user")
            counts = await throttle.unlock(change.db, user.id, name)
            change.record("user.unlocked", name)
        return counts

    async def add_group(self, name: str, parent: str | None = None, *, actor: str) -> UUID:
        """A new group, in ``parent`` if given. Raises Refused: bad_name, exists, not_found."""
        label(name, "group")
        async with self._directory.change(actor) as change:
            await must_be_new(change.db, Group, name, "group")
            above = None if parent is None else (await find(change.db, Group, parent, "group")).id
            group = Group(id=uuid4(), name=name, parent_id=above, created_at=self._clock())
            change.db.add(group)
            change.record("group.added", name if parent is None else f"{name}, in {parent}")
        return group.id

    async def set_parent(self, name: str, parent: str | None, *, actor: str) -> None:
        """Puts a group into another one, or into none. Raises Refused: not_found, cycle."""
        async with self._directory.change(actor) as change:
            group = await find(change.db, Group, name, "group")
            above = None if parent is None else await find(change.db, Group, parent, "group")
            await _refuse_cycle(change.db, group, above)
            new = None if above is None else above.id
            if group.parent_id != new:
                group.parent_id = new
                change.record("group.parent_set", f"{name}; parent: {parent or 'none'}")

    async def groups(self) -> list[GroupView]:
        """Every group, by name; members are the users named for it."""
        async with self._storage.read() as db:
            rows = list(await db.scalars(select(Group).order_by(Group.name)))
            members: defaultdict[UUID, list[str]] = defaultdict(list)
            pairs = select(Membership.group_id, User.name).join(User, User.id == Membership.user_id)
            for group_id, user in await db.execute(pairs.order_by(User.name)):
                members[group_id].append(user)
        names = {row.id: row.name for row in rows}
        return [
            GroupView(
                id=row.id,
                name=row.name,
                parent=None if row.parent_id is None else names[row.parent_id],
                members=tuple(members.get(row.id, ())),
            )
            for row in rows
        ]


async def _join(db: AsyncSession, user: User, groups: Sequence[str]) -> None:
    for name in sorted(set(groups)):
        group = await find(db, Group, name, "group")
        db.add(Membership(user_id=user.id, group_id=group.id))


async def _refuse_cycle(db: AsyncSession, group: Group, parent: Group | None) -> None:
    path = [group.name]
    at = parent
    while at is not None:
        path.append(at.name)
        if at.id == group.id:
            raise Refused("cycle", f"a group cannot be in itself: {' in '.join(path)}", "choose another parent")
        at = None if at.parent_id is None else await db.get(Group, at.parent_id)
