"""Reads the audit chains of a database and says whether they are intact.

Laws:

1. Everything is checked that the database alone can show (chain.py): each record, each head, the register of chains,
   and what later chains witnessed of earlier ones.
2. One consistent view, read in pages: memory does not grow with the log, and a running controller is not held up.
3. The first thing wrong in each chain is named; the other chains are checked all the same.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from certs.secret import Secret
from controller.audit import chain
from controller.audit.events import ChainStarted
from controller.storage.chained import REGISTER
from controller.storage.engine import Storage
from controller.storage.models import AuditChain, AuditRecord, Setting

PAGE: Final = 1_000  # records read at once: about 1 MiB


@dataclass(frozen=True, slots=True)
class Intact:
    """Nothing was changed, removed or reordered. ``witnesses`` are worth keeping elsewhere."""

    chains: int
    records: int
    witnesses: tuple[chain.Witness, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """Somebody was at the records: the first finding of each chain, by its number."""

    chains: int
    records: int
    findings: tuple[chain.Finding, ...]


async def verify_database(storage: Storage, known: Iterable[chain.Witness] = ()) -> Intact | Broken:
    """Checks every chain in an open storage; ``known`` are witnesses kept elsewhere.

    Raises StorageUnavailable if the database does not answer.
    """
    key = storage.audit_key
    async with storage.read() as db:
        return await _Verification(key, db, known).run()


class _Verification:
    def __init__(self, key: Secret, db: AsyncSession, known: Iterable[chain.Witness]) -> None:
        self._key = key
        self._db = db
        self._findings: list[chain.Finding] = []
        self._witnesses: dict[UUID, dict[int, chain.Witness]] = {}
        for witness in known:
            self._remember(witness)

    async def run(self) -> Intact | Broken:
        rows = (await self._db.execute(select(AuditChain).order_by(AuditChain.number))).scalars().all()
        await self._gather_witnesses(rows)
        await self._check_register({row.number for row in rows}, {row.id for row in rows})
        tips = [(row.id, await self._check_chain(row)) for row in rows]
        records = sum(tip.length for _, tip in tips)
        if self._findings:
            found = sorted(self._findings, key=lambda finding: (finding.number, finding.seq))
            return Broken(len(rows), records, tuple(found))
        return Intact(len(rows), records, tuple(chain.Witness(each, tip.length, tip.mac) for each, tip in tips))

    def _remember(self, witness: chain.Witness) -> None:
        """Of several witnesses of one length that disagree, one is kept: either way the record will not fit one."""
        self._witnesses.setdefault(witness.chain, {})[witness.length] = witness

    async def _gather_witnesses(self, rows: Iterable[AuditChain]) -> None:
        """What the first record of each chain saw; only if that record itself is right."""
        for row in rows:
            first = await self._db.get(AuditRecord, (row.id, 1))
            if first is None or chain.ChainCheck(self._key, _chain(row)).add(_record(first)):
                continue  # found again, and named, when its chain is checked
            for seen in ChainStarted.model_validate_json(first.event).witnessed:  # it has our MAC: it is what we wrote
                self._remember(chain.Witness(seen.chain, seen.length, bytes.fromhex(seen.mac)))

    async def _check_register(self, numbers: set[int], identifiers: set[UUID]) -> None:
        stored = (await self._db.execute(select(Setting.value).where(Setting.key == REGISTER))).scalar_one_or_none()
        count = chain.read_register(self._key, stored or "")
        if count is None:
            self._findings.append(chain.Finding(0, None, 0, "(the register of all chains) was changed or removed"))
            count = max(numbers, default=0)
        missing = [number for number in range(1, count + 1) if number not in numbers]
        self._findings += [chain.Finding(number, None, 0, "was removed") for number in missing]
        self._findings += [
            chain.Finding(number, None, 0, "was added: the register does not know it")
            for number in numbers
            if number > count or number < 1
        ]
        if not missing:
            gone = [each for each in self._witnesses if each not in identifiers]
            self._findings += [chain.Finding(0, each, 0, "was removed: another chain witnessed it") for each in gone]
        strays = (
            select(AuditRecord.chain_id).where(AuditRecord.chain_id.not_in(select(AuditChain.id))).distinct().limit(10)
        )
        for stray in (await self._db.execute(strays)).scalars():
            self._findings.append(chain.Finding(0, stray, 0, "has records, but no beginning"))

    async def _check_chain(self, row: AuditChain) -> chain.Tip:
        check = chain.ChainCheck(self._key, _chain(row), self._witnesses.get(row.id, {}).values())
        async for record in _records(self._db, row.id):
            if check.add(record):
                break
        finding = check.finish(row.length, row.head)
        if finding:
            self._findings.append(finding)
        return check.tip


async def _records(db: AsyncSession, identifier: UUID) -> AsyncIterator[chain.Record]:
    """The records of a chain in order, a page at a time."""
    columns = (AuditRecord.seq, AuditRecord.at, AuditRecord.kind, AuditRecord.event, AuditRecord.mac)
    after = (await db.execute(select(func.min(AuditRecord.seq)).where(AuditRecord.chain_id == identifier))).scalar()
    if after is None:
        return
    after -= 1
    while True:
        page = select(*columns).where(AuditRecord.chain_id == identifier, AuditRecord.seq > after)
        rows = (await db.execute(page.order_by(AuditRecord.seq).limit(PAGE))).all()
        for row in rows:
            yield chain.Record(*row)
        if len(rows) < PAGE:
            return
        after = rows[-1].seq


def _chain(row: AuditChain) -> chain.Chain:
    return chain.Chain(row.id, row.number, row.controller, row.started_at)


def _record(row: AuditRecord) -> chain.Record:
    return chain.Record(row.seq, row.at, row.kind, row.event, row.mac)
