"""Proofs to answers: who somebody is, what is missing, or why not. Logins and changes of an account go through here.

Laws:

1. Every refusal of the account or password looks alike and takes as long.
2. One attempt at a time of those that are counted together, and slower after each failure (attempts.py).
3. Attempts on devices of others cannot succeed. They are answered as slowly as any, but with a thread of their own:
   they never stand in the way of somebody on their own device.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from controller.identity import attempts, rules
from controller.identity.by_backup_code import ByBackupCode
from controller.identity.by_password import ByPassword
from controller.identity.by_totp import ByTotp
from controller.identity.method import Attempt, Lost, Method, Proved, Refused
from controller.identity.passwords import Busy, Passwords
from controller.identity.rules import Account, Reason
from controller.identity.throttle import Throttle
from controller.sessions.rules import SERVICE
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, User
from wire.messages import Ask, PasswordAsk, PasswordProof, Proof

OTHERS_AT_ONCE: Final = 4
"""Attempts at accounts of others that are looked at together, of all there are."""
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Asking:
    """One request: who says to be whom, by what, and from where. `before`: what is proved by other means already."""

    device: UUID
    source: str
    user: str | None
    proofs: tuple[Proof, ...]
    now: datetime
    before: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Settled:
    """Enough was proved. `use_up` must be awaited in the transaction that acts on it."""

    account: Account
    proved: tuple[Proved, ...]
    methods: frozenset[str]
    second_factor_at: datetime

    async def use_up(self, change: Change) -> None:
        """Uses up what the proofs use up. Raises Lost."""
        for each in self.proved:
            await each.use(change)


@dataclass(frozen=True, slots=True)
class More:
    """Not enough yet; what would be accepted next."""

    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """Who is meant, if anybody, and whose guess it is (attempts.py)."""

    account: Account | None
    keys: tuple[str, ...]


class Proving:
    """Judges the proofs of one request. `domain` is shown in authenticator apps; `further` methods come last.

    `owner_of` names a device's owner from memory: it only says whom an attempt may keep waiting.
    """

    def __init__(
        self,
        storage: Storage,
        passwords: Passwords,
        domain: str,
        *,
        owner_of: Callable[[UUID], str | None],
        further: Sequence[Method[Any]] = (),
    ) -> None:
        self._owner_of = owner_of
        self._others = 0
        self._storage = storage
        self._by_password = ByPassword(passwords)
        by_code = (ByTotp(storage, domain), ByBackupCode(storage))
        self._methods: Sequence[Method[Any]] = (self._by_password, *by_code, *further)
        self._throttle = Throttle(storage)
        self._at_work: set[str] = set()

    async def prove(self, asking: Asking) -> Settled | More | Refused:
        """What the proofs come to. Raises StorageUnavailable."""
        async with self._admitted(asking) as found:
            if isinstance(found, Refused):
                return found
            try:
                outcome = await self._judge(asking, found.account)
            except Busy:
                return Refused(Reason.BUSY, rules.BUSY)
            if isinstance(outcome, Refused):
                await self._throttle.refused(found.keys, asking.now)
            return outcome

    @asynccontextmanager
    async def guessing(self, asking: Asking) -> AsyncIterator[Account | Refused]:
        """The account, for something that is judged elsewhere, or why not. See `lost`."""
        async with self._admitted(asking) as found:
            if isinstance(found, Refused):
                yield found
                return
            nobody = rules.why_nobody(found.account)
            if found.account is None or nobody is not None:
                yield Refused(nobody or Reason.USER_UNKNOWN, rules.BAD_CREDENTIALS)
            else:
                yield found.account

    async def lost(self, asking: Asking, lost: Lost) -> Refused:
        """A refusal that counts, of what was judged after `prove`. Raises StorageUnavailable."""
        await self._throttle.refused((attempts.own(asking.device),), asking.now)
        return Refused(lost.reason, lost.told)

    @asynccontextmanager
    async def _admitted(self, asking: Asking) -> AsyncIterator[_Found | Refused]:
        """Who is meant, while nobody else is judged whose guesses count with this one; or that they have to wait."""
        busy = {str(asking.device), *self._counted_with(asking)}
        others = attempts.own(asking.device) not in busy
        if busy & self._at_work or (others and self._others >= OTHERS_AT_ONCE):
            yield Refused(Reason.AT_WORK, rules.AT_WORK)
            return
        self._at_work |= busy
        self._others += others
        try:
            found = await self._look_up(asking)
            async with self._storage.read() as db:
                wait = await self._throttle.wait(db, found.keys, asking.now)
            yield Refused(Reason.TOO_MANY, rules.too_many(wait)) if wait > timedelta(0) else found
        finally:
            self._at_work -= busy
            self._others -= others

    def _counted_with(self, asking: Asking) -> tuple[str, ...]:
        """Whose guess it is, by what is in memory: a storm of them must not reach the database."""
        owner = self._owner_of(asking.device)
        own = owner is not None and asking.user in {None, owner}
        name = asking.user or owner or ""
        return attempts.keys(device=asking.device, owner=own, name=name, source=asking.source)

    async def _look_up(self, asking: Asking) -> _Found:
        """The account of the name, or of the device's owner; as many queries for a name there is not."""
        async with self._storage.read() as db:
            owner = await db.scalar(select(Device.user_id).where(Device.id == asking.device))
            name = asking.user
            user = await db.scalar(select(User).where(User.name == name if name is not None else User.id == owner))
            identifier = _NOBODY if user is None else user.id
            set_up = {method.kind for method in self._methods if await method.is_set_up(db, identifier)}
        owns = user is not None and user.id == owner
        keys = attempts.keys(device=asking.device, owner=owns, name=name or "", source=asking.source)
        if user is None:
            return _Found(None, keys)
        account = Account(
            user_id=user.id,
            name=user.name,
            password_hash=user.password_hash,
            disabled=user.disabled_at is not None,
            owns_device=owns,
            set_up=frozenset(set_up),
            service=user.service,
        )
        return _Found(account, keys)

    async def _judge(self, asking: Asking, account: Account | None) -> Settled | More | Refused:
        nobody = rules.why_nobody(account)
        if account is None or nobody is not None:
            return await self._decline(asking, nobody or Reason.USER_UNKNOWN)
        if account.service:
            return Settled(account, (), SERVICE, rules.NEVER)
        may_enrol = rules.may_enrol(account, asking.before)
        attempt = Attempt(account, asking.device, asking.source, asking.now, may_enrol)
        proved: list[Proved] = []
        methods: frozenset[str] = asking.before
        for method, proof in self._in_order(asking.proofs):
            if method.second and not methods:
                continue
            outcome = await method.check(attempt, proof)
            if isinstance(outcome, Refused):
                return outcome
            proved.append(outcome)
            methods |= outcome.methods
        if proved and rules.suffices(methods):
            at = rules.second_factor_at([(each.methods, each.proved_at) for each in proved], asking.now)
            return Settled(account, tuple(proved), rules.of_session(methods) - asking.before, at)
        return More(tuple([ask for method in self._methods for ask in await method.asks(attempt, methods)]))

    def _in_order(self, proofs: Sequence[Proof]) -> list[tuple[Method[Any], Any]]:
        """Each proof with the method that judges it, those that count by themselves first."""
        given = {proof.type: proof for proof in proofs}
        pairs = [(method, given[method.kind]) for method in self._methods if method.kind in given]
        return sorted(pairs, key=lambda pair: pair[0].second)

    async def _decline(self, asking: Asking, reason: str) -> More | Refused:
        """The answer for an account that does not count: what a wrong password gets, no sooner."""
        first = [proof for method, proof in self._in_order(asking.proofs) if not method.second]
        if not first:
            return More((PasswordAsk(),))
        for proof in first:
            if isinstance(proof, PasswordProof):
                await self._by_password.decline(proof)
        return Refused(reason, rules.BAD_CREDENTIALS)
