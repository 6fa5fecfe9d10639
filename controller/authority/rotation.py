"""Rotation: an intermediate gives way to the next with nobody shut out, or at once where its key is in wrong hands.

Laws:

1. What is trusted is committed, told to gateways and devices, and only then used to issue (rules.py says when).
2. A rotation survives a restart: its state is in the database, and `advance` goes on from there.
3. One rotation a purpose at a time.
4. What is distrusted loses everything that hangs on it before the call returns; who that is can be asked before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import ColumnElement, and_, delete, or_, select, update

from certs.errors import BadCertificate
from certs.issue import Issuer, issue_intermediate, load_private_key, make_csr, new_private_key, private_key_pem
from certs.names import Purpose
from controller.audit.events import AuthorityChanged
from controller.authority.authority import Authority, intermediate_of, open_root, request_context, row_of
from controller.authority.rules import (
    Intermediate,
    Standing,
    Times,
    begins_by,
    gone_by,
    may_begin,
    standing,
)
from controller.errors import Refused
from controller.storage import Storage
from controller.storage.engine import Change
from controller.storage.models import Authority as Row
from controller.storage.models import AuthorityRequest, Device, Gateway, User

ACKNOWLEDGE_SECONDS: Final = 5.0
"""How long a command waits for gateways; what comes later, `advance` sees."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody whose certificate an intermediate signed: a session, a device or a gateway."""

    kind: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class View:
    """An intermediate as administrators see it. `hangs` is how many live certificates of it are known."""

    id: UUID
    purpose: str
    standing: Standing
    sha256: str
    valid_from: datetime
    valid_until: datetime
    issuing_at: datetime | None
    retired_at: datetime | None
    ends: datetime | None  # next: when it begins at the latest; retiring: when it goes
    waits_for: tuple[str, ...]  # next: gateways that do not have it in force
    hangs: int | None
    rotate_by: datetime  # from here on what it signs is cut short by its own end


What = Literal["made", "issues", "retired", "distrusted"]
Sessions = Callable[[], Sequence[tuple[Holder, datetime]]]
"""Live sessions, each with the end of its certificate."""


class Rotation:
    """What administrators do with intermediates, and what time does.

    `announce` tells gateways and devices whom to trust now and begins with it here; `cast_out` ends what these holders
    have open; `trusting` says whether a gateway has the trust of this moment in force.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        authority: Authority,
        times: Times,
        clock: Callable[[], datetime],
        sessions: Sessions,
        trusting: Callable[[str], bool],
        announce: Callable[[], Awaitable[None]],
        cast_out: Callable[[Sequence[Holder]], Awaitable[None]],
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._times = times
        self._clock = clock
        self._sessions = sessions
        self._trusting = trusting
        self._announce = announce
        self._cast_out = cast_out
        self._turn = asyncio.Lock()

    # What administrators ask

    async def show(self) -> list[View]:
        """Every intermediate, by purpose, the newest last."""
        waiting = await self._waiting()
        views = [await self._view(one, waiting) for one in self._authority.intermediates]
        return sorted(views, key=lambda view: (view.purpose, view.valid_from))

    async def holders(self, one: Intermediate) -> list[Holder]:
        """Who loses access when `one` is trusted no more, as far as is known here."""
        match one.purpose:
            case Purpose.SESSIONS:
                return self._sessions_of(one)
            case Purpose.DEVICES:
                found = select(Device.id, Device.name, User.name.label("user")).join(User, User.id == Device.user_id)
                found = found.where(_held(Device, one, self._clock()), Device.revoked_at.is_(None)).order_by(User.name)
                async with self._storage.read() as db:
                    rows = (await db.execute(found)).all()
                return [Holder("device", str(row.id), f"{row.user} on {row.name or row.id}") for row in rows]
            case Purpose.SERVICES:
                async with self._storage.read() as db:
                    names = list(await db.scalars(select(Gateway.name).where(_held(Gateway, one, self._clock()))))
                return [Holder("gateway", name, name) for name in sorted(names)]

    async def losing(self, purpose: Purpose) -> list[Holder]:
        """Who loses access when everything trusted for a purpose now is trusted no more."""
        live = [one for one in self._of(purpose) if one.retired_at is None]
        return [holder for one in live for holder in await self.holders(one)]

    # What they do

    async def rotate(self, purpose: Purpose, *, actor: str, at_once: bool = False) -> View:
        """A new intermediate for a purpose, signed by the root that is here.

        Raises Refused: root_offline, under_way, too_soon. `at_once` distrusts those before it (law 4).
        """
        async with self._storage.read() as db:
            root = await open_root(db, self._storage.sealer)
        if root is None:
            fix = f"gloam-controller ca request {purpose} --out FILE, sign that where the root is, then ca install"
            raise Refused("root_offline", "the root key of this perimeter is kept offline", fix)
        made = issue_intermediate(root, purpose, self._authority.domain, now=self._clock())
        return await self.begin(made, purpose, actor=actor, at_once=at_once)

    async def begin(
        self,
        made: Issuer,
        purpose: Purpose,
        *,
        actor: str,
        at_once: bool = False,
        also: Callable[[Change], Awaitable[None]] | None = None,
    ) -> View:
        """Takes a new intermediate in; `also` is part of the same change. Raises Refused: under_way, too_soon."""
        async with self._turn:
            return await self._begin(made, purpose, actor, at_once=at_once, also=also)

    async def _begin(
        self,
        made: Issuer,
        purpose: Purpose,
        actor: str,
        *,
        at_once: bool,
        also: Callable[[Change], Awaitable[None]] | None,
    ) -> View:
        self._require_room(purpose, made.certificate, at_once=at_once)
        now = self._clock()
        row = row_of(made, purpose, self._storage.sealer, now=now, issuing_at=now if at_once else None)
        gone = [one for one in self._of(purpose) if one.retired_at is None] if at_once else []
        losing = await self.losing(purpose) if at_once else []
        async with self._storage.change() as change:
            change.db.add(row)
            change.record(_event(actor, "made", intermediate_of(row)))
            if also is not None:
                await also(change)
            for one in gone:
                await change.db.execute(update(Row).where(Row.id == one.id).values(retired_at=now))
                change.record(_event(actor, "distrusted", one))
        await asyncio.gather(self._changed(), self._cast_out(losing))  # neither waits for the other
        await self._advance()
        return await self._view(self._named(row.id), await self._waiting())

    async def retire(self, identifier: UUID, *, actor: str) -> list[Holder]:
        """Trusts a retiring intermediate no more, before its time; answers who lost access.

        Raises Refused: issuing, retired.
        """
        async with self._turn:
            return await self._retire_early(self._named(identifier), actor)

    async def _retire_early(self, one: Intermediate, actor: str) -> list[Holder]:
        match standing(one, self._authority.intermediates):
            case Standing.ISSUING:
                fix = f"gloam-controller ca rotate {one.purpose}, or with --now where its key is in wrong hands"
                raise Refused("issuing", f"this is the intermediate that issues for {one.purpose}", fix)
            case Standing.RETIRED:
                raise Refused("retired", "nobody trusts this intermediate any more", "see: gloam-controller ca show")
            case Standing.NEXT | Standing.RETIRING:
                losing = await self.holders(one)
                await asyncio.gather(self._retire(one, actor, "before its time"), self._cast_out(losing))
                return losing

    async def advance(self) -> None:
        """Does what is due: the next begin to issue, the last go. To be called now and then."""
        async with self._turn:
            await self._advance()

    async def _advance(self) -> None:
        now = self._clock()
        waiting = await self._waiting() if self._unfinished() else ()
        for one in self._authority.intermediates:
            match standing(one, self._authority.intermediates):
                case Standing.NEXT if may_begin(one, waiting, self._times, now):
                    late = f"not heard of by {', '.join(waiting)}" if waiting else ""
                    await self._switch(one, "" if one.purpose is Purpose.DEVICES else late)
                case Standing.RETIRING:
                    ends = gone_by(one, self._authority.intermediates, self._times)
                    # Their lifetime may have been longer once: nobody we know of is shut out by a setting.
                    if ends is not None and now >= ends and not await self.holders(one):
                        await self._retire(one, "", "nothing that it signed counts any more")
                case _:
                    pass

    async def request(self, purpose: Purpose, *, actor: str) -> tuple[bytes, UUID]:
        """A signing request (PEM) for an intermediate to be, whose key is kept here; replaces an earlier one."""
        key, identifier = new_private_key(), uuid4()
        sealed = self._storage.sealer.seal(private_key_pem(key), request_context(identifier))
        async with self._storage.change() as change:
            await change.db.execute(delete(AuthorityRequest).where(AuthorityRequest.purpose == str(purpose)))
            change.db.add(
                AuthorityRequest(purpose=str(purpose), id=identifier, sealed_key=sealed, created_at=self._clock())
            )
            change.record(
                AuthorityChanged(actor=actor, what="requested", purpose=str(purpose), intermediate=identifier)
            )
        return make_csr(key), identifier

    async def install(
        self, certificate: x509.Certificate, *, actor: str, at_once: bool = False, sure: bool = True
    ) -> Purpose | View:
        """Begins with a certificate that the root signed for a request of ours; unless `sure`, only says its purpose.

        Raises Refused: not_ours, unfit_certificate, and as `begin` does.
        """
        async with self._storage.read() as db:
            rows = list(await db.scalars(select(AuthorityRequest)))
        for row in rows:
            key = load_private_key(self._storage.sealer.open(row.sealed_key, request_context(row.id)))
            if key.public_key() == certificate.public_key():
                break
        else:
            fix = "gloam-controller ca request PURPOSE --out FILE makes one; a newer request replaces an older"
            raise Refused("not_ours", "nothing here waits for this certificate", fix)
        purpose = Purpose(row.purpose)
        try:
            of_purpose = self._authority.trust.with_anchor(certificate).anchors[purpose]
        except BadCertificate as error:
            raise Refused(
                "unfit_certificate", f"this certificate cannot be used: {error}", "sign the request again"
            ) from None
        if not certificate.not_valid_before_utc <= self._clock() <= certificate.not_valid_after_utc:
            what, fix = "this certificate is not valid now", "check the clock where it was signed, and sign again"
            raise Refused("unfit_certificate", what, fix)
        if certificate not in of_purpose:
            raise Refused("unfit_certificate", f"this certificate is not one for {purpose}", "sign the request again")
        if not sure:
            return purpose

        async def used(change: Change) -> None:
            await change.db.execute(delete(AuthorityRequest).where(AuthorityRequest.purpose == row.purpose))

        return await self.begin(Issuer(certificate, key), purpose, actor=actor, at_once=at_once, also=used)

    # Inside

    def _unfinished(self) -> bool:
        return any(one.issuing_at is None and one.retired_at is None for one in self._authority.intermediates)

    async def _waiting(self) -> tuple[str, ...]:
        """The gateways that do not have the trust of this moment in force."""
        async with self._storage.read() as db:
            names = list(await db.scalars(select(Gateway.name).where(Gateway.enrolled_at.is_not(None))))
        return tuple(sorted(name for name in names if not self._trusting(name)))

    def _of(self, purpose: Purpose) -> list[Intermediate]:
        return [one for one in self._authority.intermediates if one.purpose is purpose]

    def _named(self, identifier: UUID) -> Intermediate:
        return next(one for one in self._authority.intermediates if one.id == identifier)

    def _require_room(self, purpose: Purpose, certificate: x509.Certificate, *, at_once: bool) -> None:
        live = [one for one in self._of(purpose) if one.retired_at is None]
        if any(one.issuing_at is None for one in live) and not at_once:
            what = f"another intermediate for {purpose} is under way already"
            raise Refused("under_way", what, "wait until it issues; see: gloam-controller ca show")
        if any(certificate.not_valid_before_utc <= one.certificate.not_valid_before_utc for one in self._of(purpose)):
            # Devices that were away know the newest by its time (certs.trust, law 4).
            raise Refused("too_soon", "the new intermediate is no newer than the one there is", "try again in a second")

    async def _switch(self, one: Intermediate, late: str) -> None:
        async with self._storage.change() as change:
            await change.db.execute(update(Row).where(Row.id == one.id).values(issuing_at=self._clock()))
            change.record(_event("", "issues", one, late))
        await self._changed()

    async def _retire(self, one: Intermediate, actor: str, why: str) -> None:
        async with self._storage.change() as change:
            await change.db.execute(update(Row).where(Row.id == one.id).values(retired_at=self._clock()))
            change.record(_event(actor, "retired", one, why))
        await self._changed()

    async def _changed(self) -> None:
        async with self._storage.read() as db:
            await self._authority.reload(db, self._storage.sealer)
        await self._announce()

    def _sessions_of(self, one: Intermediate) -> list[Holder]:
        """Live sessions whose certificate `one` signed: those issued while it did."""
        after = [each.issuing_at for each in self._of(one.purpose) if each.issuing_at is not None]
        if one.issuing_at is None:
            return []
        begin, end = one.issuing_at, min((at for at in after if at > one.issuing_at), default=None)
        lasts = self._times.session
        return [
            holder
            for holder, until in self._sessions()
            if begin <= until - lasts and (end is None or until - lasts < end)
        ]

    async def _view(self, one: Intermediate, waiting: tuple[str, ...]) -> View:
        is_now = standing(one, self._authority.intermediates)
        ends = gone_by(one, self._authority.intermediates, self._times)
        awaited = is_now is Standing.NEXT and one.purpose is not Purpose.DEVICES
        return View(
            id=one.id,
            purpose=str(one.purpose),
            standing=is_now,
            sha256=one.certificate.fingerprint(SHA256()).hex(),
            valid_from=one.certificate.not_valid_before_utc,
            valid_until=one.certificate.not_valid_after_utc,
            issuing_at=one.issuing_at,
            retired_at=one.retired_at,
            ends=begins_by(one, self._times) if awaited else ends,
            waits_for=waiting if awaited else (),
            rotate_by=one.certificate.not_valid_after_utc - self._times.hanging(one.purpose),
            hangs=None if is_now is Standing.RETIRED else len(await self.holders(one)),
        )


def _held(table: type[Device] | type[Gateway], one: Intermediate, now: datetime) -> ColumnElement[bool]:
    """Rows that hold a certificate of `one` that has not ended, or were given it as their next."""
    present = and_(table.issuer_id == one.id, table.certified_until > now)
    return or_(present, and_(table.next_issuer_id == one.id, table.next_certified_until > now))


def _event(actor: str, what: What, one: Intermediate, detail: str = "") -> AuthorityChanged:
    sha256 = one.certificate.fingerprint(SHA256()).hex()
    return AuthorityChanged(
        actor=actor, what=what, purpose=str(one.purpose), intermediate=one.id, sha256=sha256, detail=detail
    )
