"""Appends audit records to this process's chain, inside the transaction of a change.

Laws:

1. A chain is begun by its first record, in the transaction that needs it: a process that records nothing leaves none.
2. What was written counts only after the commit. If a commit's outcome is unknown (the connection broke in it), the
   chain is read again before the next record; if its row is not what we made, a new chain begins.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from certs.secret import Secret
from controller.audit import chain as chains
from controller.audit.events import ChainStarted, Event, Witnessed, encode_event
from controller.storage.models import AuditChain, AuditRecord, Setting

REGISTER: Final = "audit_chains"
WITNESSED_CHAINS: Final = 32  # the newest ones: every older chain was witnessed by those between


class ChainWriter:
    """This process's chain. Used by one change at a time (Storage holds the lock)."""

    def __init__(self, key: Secret, controller: str) -> None:
        self._key = key
        self._controller = controller
        self._chain = uuid4()
        self._tip: chains.Tip | None = None  # none: not begun, or not known
        self._written: chains.Tip | None = None

    def committed(self) -> None:
        """The transaction of the last ``append`` was committed."""
        self._tip, self._written = self._written or self._tip, None

    def uncertain(self) -> None:
        """The transaction of the last ``append`` failed, or nobody knows."""
        if self._written is not None:
            self._tip = self._written = None

    async def append(self, db: AsyncSession, events: Sequence[tuple[datetime, Event]]) -> None:
        """Writes the events as the next records of the chain."""
        if not events:
            return
        tip = self._tip or await self._read_again(db)
        records: list[chains.Record] = []
        if tip is None:
            tip, first = await self._begin(db, events[0][0])
            records.append(first)
        for at, event in events:
            record = chains.next_record(self._key, self._chain, tip, at=at, kind=event.kind, event=encode_event(event))
            tip = chains.tip_of(record)
            records.append(record)
        self._written = tip
        await db.execute(
            insert(AuditRecord),
            [
                {"chain_id": self._chain, "seq": r.seq, "at": r.at, "kind": r.kind, "event": r.event, "mac": r.mac}
                for r in records
            ],
        )
        await db.execute(
            update(AuditChain)
            .where(AuditChain.id == self._chain)
            .values(length=tip.length, head=chains.head(self._key, self._chain, tip))
        )

    async def _read_again(self, db: AsyncSession) -> chains.Tip | None:
        row = await db.get(AuditChain, self._chain)
        if row is None:
            return None
        last = await db.get(AuditRecord, (self._chain, row.length))
        tip = chains.Tip(row.length, last.mac if last else b"")
        if chains.head(self._key, self._chain, tip) == row.head:
            return tip
        self._chain = uuid4()
        return None

    async def _begin(self, db: AsyncSession, now: datetime) -> tuple[chains.Tip, chains.Record]:
        """The row of a new chain, and the first record, which witnesses the chains before."""
        # Replicas beginning chains at once wait for each other here (FOR UPDATE; SQLite has one writer anyway).
        row = (await db.execute(select(Setting).where(Setting.key == REGISTER).with_for_update())).scalar_one()
        newest = (
            await db.execute(select(AuditChain).order_by(AuditChain.number.desc()).limit(WITNESSED_CHAINS))
        ).scalars()
        witnessed = tuple([await self._witness(db, other) for other in newest])
        count = max(chains.read_register(self._key, row.value) or 0, *(0, *[each[0] for each in witnessed]))
        chain = chains.Chain(self._chain, count + 1, self._controller, now)
        row.value = chains.register(self._key, chain.number)
        started = chains.beginning(self._key, chain)
        db.add(
            AuditChain(
                id=chain.id,
                number=chain.number,
                controller=chain.controller,
                started_at=now,
                length=0,
                head=chains.head(self._key, chain.id, started),
            )
        )
        await db.flush()
        event = ChainStarted(
            controller=self._controller, number=chain.number, witnessed=tuple(each[1] for each in witnessed)
        )
        first = chains.next_record(self._key, chain.id, started, at=now, kind=event.kind, event=encode_event(event))
        return chains.tip_of(first), first

    @staticmethod
    async def _witness(db: AsyncSession, other: AuditChain) -> tuple[int, Witnessed]:
        last = await db.get(AuditRecord, (other.id, other.length))
        return other.number, Witnessed(chain=other.id, length=other.length, mac=last.mac.hex() if last else "")
