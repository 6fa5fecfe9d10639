"""Grants: add, list, remove.

Laws:

1. A grant is to one group or one user, on one resource or one segment, and all of them exist when it is made.
2. What a grant says is kept in one spelling, so that what is listed can be typed back.
3. A grant that is there already, word for word and without an end, is not made twice: adding it answers the first one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from console.address import BadDuration, format_duration, parse_duration
from controller.decision.facts import Grant
from controller.decision.hours import BadHours, Hours
from controller.directory.lookup import find, not_found
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.storage import models

LONGEST_REASON: Final = 1024
LONGEST_MFA: Final = timedelta(days=3650)
SHORTEST_PREFIX: Final = 4


@dataclass(frozen=True, slots=True)
class GrantView:
    """A grant as administrators see it; ``to`` as in "group staff", ``on`` as in "resource wiki"."""

    id: UUID
    to: str
    on: str
    hours: str | None
    mfa_within: str | None
    expires_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Conditions:
    hours: Hours | None
    mfa_within: timedelta | None
    expires_in: timedelta | None
    reason: str


class GrantService:
    """What administrators do with grants; every change is in force when its call returns."""

    def __init__(self, directory: DirectoryService, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._clock = clock

    async def add(
        self,
        *,
        group: str | None = None,
        user: str | None = None,
        resource: str | None = None,
        segment: str | None = None,
        hours: str | None = None,
        mfa_within: str | None = None,
        expires: str | None = None,
        reason: str | None = None,
        actor: str,
    ) -> GrantView:
        """A new grant, or the one that says the same; ``expires`` and ``mfa_within`` are durations ("4h").

        Raises Refused: bad_grant, bad_hours, bad_duration, bad_reason, not_found.
        """
        if (group is None) == (user is None):
            raise Refused("bad_grant", "a grant is to one group or one user", "name one of --group and --user")
        if (resource is None) == (segment is None):
            raise Refused(
                "bad_grant", "a grant is on one resource or one segment", "name one of --resource and --segment"
            )
        said = _conditions(hours, mfa_within, expires, reason)
        now = self._clock()
        expires_at = None if said.expires_in is None else now + said.expires_in
        wanted = (group, user, resource, segment, said.hours, said.mfa_within, expires_at, said.reason)
        for kept in self._directory.current.grants.values():
            says = (kept.group, kept.user, kept.resource, kept.segment, kept.hours, kept.mfa_within, None, kept.reason)
            if kept.expires_at is None and says == wanted:
                return _view(kept)
        async with self._directory.change(actor) as change:
            db = change.db
            if segment is not None:
                await _require_segment(db, segment)
            row = models.Grant(
                id=uuid4(),
                group_id=None if group is None else (await find(db, models.Group, group, "group")).id,
                user_id=None if user is None else (await find(db, models.User, user, "user")).id,
                resource_id=None if resource is None else (await find(db, models.Resource, resource, "resource")).id,
                segment=segment,
                hours=None if said.hours is None else str(said.hours),
                mfa_within_seconds=None if said.mfa_within is None else said.mfa_within // timedelta(seconds=1),
                expires_at=expires_at,
                reason=said.reason or None,
                created_at=now,
            )
            db.add(row)
            grant = Grant(
                id=row.id,
                group=group,
                user=user,
                resource=resource,
                segment=segment,
                hours=said.hours,
                mfa_within=said.mfa_within,
                expires_at=expires_at,
                reason=said.reason,
            )
            change.record("grant.added", describe(grant))
        return _view(grant)

    async def listing(self) -> list[GrantView]:
        """Every grant, the oldest first; expired ones too."""
        return [_view(grant) for grant in self._directory.current.grants.values()]

    async def remove(self, identifier: str, *, actor: str) -> UUID:
        """Removes a grant, named by its identifier or a unique beginning. Raises Refused: not_found, ambiguous."""
        wanted = identifier.removeprefix("grant/").lower()
        async with self._directory.change(actor) as change:
            known = [each for each in await change.db.scalars(select(models.Grant.id)) if str(each).startswith(wanted)]
            if len(wanted) < SHORTEST_PREFIX or not known:
                fix = "see: gloam-controller grant list"
                raise Refused("not_found", f"there is no grant {identifier[:64]!a}", fix)
            if len(known) > 1:
                what = f"{len(known)} grants begin with {wanted!a}"
                raise Refused("ambiguous", what, "give more of the identifier")
            row = await change.db.get_one(models.Grant, known[0])
            grant = self._directory.current.grants.get(f"grant/{row.id}")
            await change.db.delete(row)
            change.record("grant.removed", str(row.id) if grant is None else describe(grant))
        return row.id


def describe(grant: Grant) -> str:
    """A grant in one line, for the audit log."""
    view = _view(grant)
    conditions = {"hours": view.hours, "mfa within": view.mfa_within, "expires": view.expires_at, "reason": view.reason}
    said = "".join(f"; {name}: {value}" for name, value in conditions.items() if value)
    return f"{view.id}: {view.to} on {view.on}{said}"


def _view(grant: Grant) -> GrantView:
    return GrantView(
        id=grant.id,
        to=f"user {grant.user}" if grant.user is not None else f"group {grant.group}",
        on=f"resource {grant.resource}" if grant.resource is not None else f"segment {grant.segment}",
        hours=None if grant.hours is None else str(grant.hours),
        mfa_within=None if grant.mfa_within is None else format_duration(grant.mfa_within),
        expires_at=grant.expires_at,
        reason=grant.reason,
    )


def _conditions(hours: str | None, mfa_within: str | None, expires: str | None, reason: str | None) -> _Conditions:
    said = (reason or "").strip()
    if len(said) > LONGEST_REASON or not all(character.isprintable() for character in said):
        fix = f"write at most {LONGEST_REASON} printable characters"
        raise Refused("bad_reason", "the reason is too long, or more than a line of text", fix)
    try:
        parsed = None if hours is None else Hours.parse(hours)
    except BadHours as error:
        raise Refused("bad_hours", str(error), error.fix) from error
    within = _duration(mfa_within, "--mfa-within", timedelta(seconds=1))
    if within is not None and within > LONGEST_MFA:
        raise Refused("bad_duration", "--mfa-within is more than ten years", "leave it out")
    return _Conditions(parsed, within, _duration(expires, "--expires", timedelta(milliseconds=1)), said)


def _duration(text: str | None, option: str, shortest: timedelta) -> timedelta | None:
    if text is None:
        return None
    try:
        duration = parse_duration(text)
    except BadDuration as error:
        raise Refused("bad_duration", f"{option}: {error}", error.fix) from error
    if duration < shortest or duration % shortest:
        raise Refused("bad_duration", f"{option}: {text!a} is too short or too fine", "write 15m, 4h or 30d")
    return duration


async def _require_segment(db: AsyncSession, segment: str) -> None:
    names = set(
        await db.scalars(select(models.Resource.segment).where(models.Resource.segment.is_not(None)).distinct())
    )
    known = sorted(name for name in names if name is not None)
    if segment not in known:
        missing = not_found("segment", segment, known)
        fix = missing.fix if "did you mean" in missing.fix else "put a resource into it first: resource add --segment"
        raise Refused(missing.code, missing.what, fix)
