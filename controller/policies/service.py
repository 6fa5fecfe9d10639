"""Administrators' own Cedar files: check, apply, show, remove; and explain, for grants and files together.

Laws:

1. Files are checked together with those already in force, of which they replace the ones of the same name.
2. Files are applied all or none; what is applied is in force when the call returns.
3. Before the commit, the directory they make is made once: what cannot be in force is never committed.
4. ``explain`` answers from the directory in force, by the code that decides.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from console.address import BadAddress, parse_host
from controller.decision import SessionFacts, explain
from controller.decision.check import Checked, PolicyFile, Problem, check_files, unknown_names
from controller.decision.decide import NOWHERE
from controller.decision.grants import compile_grant
from controller.directory.directory import Directory
from controller.directory.loader import load
from controller.directory.lookup import not_found
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.storage import Storage
from controller.storage.models import Policy

NAME: Final = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did: nothing if there are problems."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What checking found."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    policies: int


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A file in force, or a grant as the policy it is."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer in words; ``answer`` is allow, step_up or deny, ``assumed`` what was taken for granted."""

    user: str
    resource: str
    at: datetime
    answer: str
    code: str
    sentence: str
    fix: str
    policies: tuple[str, ...]
    assumed: str
    revision: int


class PolicyService:
    """What administrators do with policies."""

    def __init__(self, storage: Storage, directory: DirectoryService, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._directory = directory
        self._clock = clock

    async def check(self, files: Sequence[PolicyFile]) -> Reviewed:
        """What applying ``files`` would find; changes nothing. Raises Refused: bad_name."""
        async with self._storage.read() as db:
            checked = await _check(db, files)
        return Reviewed(checked.problems, self._warnings(checked), len(checked.policies))

    async def apply(self, files: Sequence[PolicyFile], *, actor: str) -> Applied:
        """Puts ``files`` in force unless there is a problem in any of them. Raises Refused: bad_name."""
        async with self._directory.change(actor) as change:
            checked = await _check(change.db, files)
            if not checked.problems:
                now = self._clock()
                for file in files:
                    row = await change.db.get(Policy, file.name)
                    if row is None:
                        change.db.add(Policy(name=file.name, text=file.text, applied_at=now))
                    else:
                        row.text, row.applied_at = file.text, now
                    ids = [each.policy.id for each in checked.policies if each.file == file.name]
                    change.record("policy.applied", f"{file.name}: {', '.join(ids) or 'no policies'}")
                await change.db.flush()
                await load(change.db)  # law 3
        return Applied(checked.problems, self._warnings(checked), self._directory.current.revision)

    async def remove(self, name: str, *, actor: str) -> int:
        """Takes a file out of force; the new revision. Raises Refused: not_found."""
        async with self._directory.change(actor) as change:
            row = await change.db.get(Policy, name)
            if row is None:
                raise not_found("policy", name, await change.db.scalars(select(Policy.name)))
            await change.db.delete(row)
            change.record("policy.removed", name)
        return self._directory.current.revision

    async def show(self) -> list[PolicyText]:
        """Everything in force: files by name, then each grant as the policy it is."""
        async with self._storage.read() as db:
            files = [PolicyText(row.name, row.text) for row in await db.scalars(select(Policy).order_by(Policy.name))]
        grants = self._directory.current.grants.values()
        return files + [PolicyText(grant.policy_id, compile_grant(grant)) for grant in grants]

    def explain(
        self,
        user: str,
        resource: str,
        at: str | None = None,
        *,
        session: SessionFacts | None = None,
        source: str = NOWHERE,
    ) -> Explained:
        """What ``session`` is answered at ``at`` (ISO 8601 with a zone; else now).

        Without one: what a session of ``user`` would be answered that has just begun, from ``source``.

        Raises Refused: not_found (user, resource), bad_time, bad_address.
        """
        directory = self._directory.current
        if directory.user_named(user) is None:
            raise not_found("user", user, directory.names)
        if resource not in directory.resources:
            raise not_found("resource", resource, directory.resources)
        when = self._clock() if at is None else _time(at)
        explained = explain(directory, user, resource, when, session, source=_source(source))
        answer = explained.answer
        return Explained(
            user=user,
            resource=resource,
            at=when,
            answer=answer.kind,
            code=answer.code,
            sentence=answer.sentence or f"{user} may reach {resource}.",
            fix=answer.fix,
            policies=answer.policies,
            assumed=explained.assumed,
            revision=directory.revision,
        )

    def _warnings(self, checked: Checked) -> tuple[Problem, ...]:
        return unknown_names(checked, _known(self._directory.current))


async def _check(db: AsyncSession, files: Sequence[PolicyFile]) -> Checked:
    """The policies of ``files`` and their problems, seen together with what stays in force."""
    for file in files:
        if not NAME.match(file.name):
            fix = "use letters, digits, dots, hyphens and underscores, as in contractors.cedar"
            raise Refused("bad_name", f"{file.name[:128]!a} cannot be the name of a policy file", fix)
    names = {file.name for file in files}
    if len(names) != len(files):
        raise Refused("bad_name", "two of these files have the same name", "rename one of them")
    stored = await db.scalars(select(Policy).where(Policy.name.not_in(names)).order_by(Policy.name))
    checked = check_files([*(PolicyFile(row.name, row.text) for row in stored), *files])
    return Checked(
        policies=tuple(each for each in checked.policies if each.file in names),
        problems=tuple(each for each in checked.problems if each.file in names),
    )


def _known(directory: Directory) -> dict[str, list[str]]:
    return {
        "User": sorted(directory.names),
        "Group": sorted(directory.groups),
        "Resource": sorted(directory.resources),
        "Segment": sorted({each.segment for each in directory.resources.values() if each.segment is not None}),
    }


def _source(text: str) -> str:
    fix = "write one, as in 192.0.2.7 or 2001:db8::7"
    try:
        return parse_host(str(ip_address(text)))
    except BadAddress as error:
        raise Refused("bad_address", f"the source {error}", fix) from error
    except ValueError as error:
        raise Refused("bad_address", f"{text[:64]!a} is not an IP address", fix) from error


def _time(text: str) -> datetime:
    fix = "write a time with its zone, as in 2026-12-24T18:00+01:00"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad_time", f"{text[:64]!a} is not a time", fix) from error
    if time.tzinfo is None:
        raise Refused("bad_time", f"{text[:64]!a} has no time zone", fix)
    return time
