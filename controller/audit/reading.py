"""Reading the audit log: the newest records, those that come, and all of them for an export.

Law: reading never waits for writers and holds one page in memory.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from controller.audit.entry import Entry
from controller.storage.engine import Storage
from controller.storage.models import AuditChain, AuditRecord

PAGE: Final = 1_000
Columns: TypeAlias = Row[UUID, int, datetime, str, str]
POLL_SECONDS: Final = 1.0  # for the records of other controllers on the database; our own wake us at once


def _entry(row: Columns) -> Entry:
    return Entry(row.chain_id, row.seq, row.at, row.kind, json.loads(row.event))


def _entries() -> Select[UUID, int, datetime, str, str]:
    return select(AuditRecord.chain_id, AuditRecord.seq, AuditRecord.at, AuditRecord.kind, AuditRecord.event)


async def newest(db: AsyncSession, count: int) -> list[Entry]:
    """The last ``count`` records by time, the oldest of them first."""
    order = (AuditRecord.at.desc(), AuditRecord.chain_id.desc(), AuditRecord.seq.desc())
    rows = (await db.execute(_entries().order_by(*order).limit(count))).all()
    return [_entry(row) for row in reversed(rows)]


async def everything(
    db: AsyncSession, *, since: datetime | None = None, until: datetime | None = None
) -> AsyncIterator[Entry]:
    """Every record by time, from ``since`` (included) to ``until`` (not), a page at a time."""
    place = (AuditRecord.at, AuditRecord.chain_id, AuditRecord.seq)
    wanted = _entries().order_by(*place).limit(PAGE)
    if since is not None:
        wanted = wanted.where(AuditRecord.at >= since)
    if until is not None:
        wanted = wanted.where(AuditRecord.at < until)
    page = wanted
    while True:
        rows = (await db.execute(page)).all()
        for row in rows:
            yield _entry(row)
        if len(rows) < PAGE:
            return
        page = wanted.where(tuple_(*place) > tuple_(*_typed(rows[-1])))


def _typed(row: Columns) -> tuple[Any, ...]:
    """The place of a row as parameters of the columns' own types."""
    columns = (AuditRecord.at, AuditRecord.chain_id, AuditRecord.seq)
    return tuple(
        bindparam(None, value, type_=column.type)
        for column, value in zip(columns, (row.at, row.chain_id, row.seq), strict=True)
    )


async def follow(storage: Storage, count: int) -> AsyncIterator[Entry]:
    """The last ``count`` records, then every record that is committed from now on, until the caller stops."""
    async with storage.read() as db:
        seen = await _lengths(db)
        last = await newest(db, count)
    for entry in last:
        yield entry
    while True:
        recorded = storage.recorded
        async with storage.read() as db:
            now = await _lengths(db)
            fresh = [
                _entry(row)
                for chain, length in now.items()
                if length > seen.get(chain, 0)
                for row in await _between(db, chain, seen.get(chain, 0), length)
            ]
        for entry in sorted(fresh, key=lambda entry: (entry.at, entry.chain, entry.seq)):
            yield entry
        seen = now
        with suppress(TimeoutError):
            await asyncio.wait_for(recorded.wait(), POLL_SECONDS)


async def _lengths(db: AsyncSession) -> dict[UUID, int]:
    return {row.id: row.length for row in await db.execute(select(AuditChain.id, AuditChain.length))}


async def _between(db: AsyncSession, chain: UUID, after: int, upto: int) -> list[Columns]:
    wanted = _entries().where(AuditRecord.chain_id == chain, AuditRecord.seq > after, AuditRecord.seq <= upto)
    return list((await db.execute(wanted.order_by(AuditRecord.seq))).all())
