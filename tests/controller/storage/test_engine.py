"""Changes are committed with their audit records, or not at all; on SQLite and on PostgreSQL alike."""

import asyncio
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from certs.secret import Secret
from controller.audit import events
from controller.storage import Sealer, Storage
from controller.storage.database import answering
from controller.storage.models import AuditChain, AuditRecord, Setting, User

NOW = datetime(2026, 3, 1, 12, 30, 15, 123_456, tzinfo=UTC)


def added(name: str) -> events.ChangeMade:
    return events.ChangeMade(actor="root", what="user.added", detail=name)


async def names(storage: Storage) -> list[str]:
    async with storage.read() as db:
        return list((await db.scalars(select(User.name).order_by(User.name))).all())


async def recorded(storage: Storage) -> list[tuple[int, str]]:
    async with storage.read() as db:
        rows = await db.execute(select(AuditRecord.seq, AuditRecord.kind).order_by(AuditRecord.seq))
        return [(seq, kind) for seq, kind in rows]


async def test_a_change_is_committed_with_its_records(storage: Storage) -> None:
    async with storage.change() as change:
        change.db.add(User(name="ada", created_at=NOW))
        change.record(added("ada"))
    assert await names(storage) == ["ada"]
    assert await recorded(storage) == [(1, "audit.chain_started"), (2, "change.made")]
    async with storage.read() as db:
        user = (await db.scalars(select(User))).one()
    assert user.created_at == NOW


async def test_a_change_that_fails_leaves_neither_rows_nor_records(storage: Storage) -> None:
    with pytest.raises(ValueError, match="no"):  # noqa: PT012 - the end of the block is the point
        async with storage.change() as change:
            change.db.add(User(name="ada", created_at=NOW))
            await change.db.flush()
            change.record(added("ada"))
            raise ValueError("no")
    assert await names(storage) == []
    assert await recorded(storage) == []


async def test_a_mistake_of_ours_is_not_called_an_outage(storage: Storage) -> None:
    for expected in (None, IntegrityError):
        if expected is None:
            async with storage.change() as change:
                change.db.add(User(name="ada", created_at=NOW))
                change.record(added("ada"))
        else:
            with pytest.raises(expected):  # noqa: PT012 - the end of the block is the point
                async with storage.change() as change:
                    change.db.add(User(name="ada", created_at=NOW))
                    change.record(added("ada"))
    async with storage.change() as change:
        change.db.add(User(name="bob", created_at=NOW))
        change.record(added("bob"))
    assert [seq for seq, _ in await recorded(storage)] == [1, 2, 3]


async def test_concurrent_changes_are_serial_and_the_chain_has_no_gaps(storage: Storage) -> None:
    async def add(number: int) -> None:
        async with storage.change() as change:
            change.db.add(User(name=f"user-{number}", created_at=NOW))
            change.record(added(str(number)))

    await asyncio.gather(*(add(number) for number in range(20)))
    assert len(await names(storage)) == 20
    assert [seq for seq, _ in await recorded(storage)] == list(range(1, 22))


async def test_a_read_never_commits(storage: Storage) -> None:
    async with storage.read() as db:
        db.add(User(name="ada", created_at=NOW))
        with suppress(DBAPIError):  # PostgreSQL says so; SQLite forgets it
            await db.flush()
    assert await names(storage) == []


async def test_a_read_is_one_view(storage: Storage) -> None:
    async with storage.read() as db:
        before = (await db.scalars(select(User.name))).all()
        async with storage.change() as change:
            change.db.add(User(name="ada", created_at=NOW))
        assert (await db.scalars(select(User.name))).all() == before == []
    assert await names(storage) == ["ada"]


async def test_a_cancelled_change_is_undone_and_the_next_one_works(storage: Storage) -> None:
    inside, never = asyncio.Event(), asyncio.Event()

    async def wait_inside() -> None:
        async with storage.change() as change:
            change.db.add(User(name="ada", created_at=NOW))
            await change.db.flush()
            change.record(added("ada"))
            inside.set()
            await never.wait()

    task = asyncio.create_task(wait_inside())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with storage.change() as change:
        change.db.add(User(name="bob", created_at=NOW))
        change.record(added("bob"))
    assert await names(storage) == ["bob"]
    assert [seq for seq, _ in await recorded(storage)] == [1, 2]


async def test_who_is_being_cancelled_is_told_of_no_outage() -> None:
    """A loop that outlives outages would outlive the end of its task."""

    async def torn() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with answering(make_url("sqlite+aiosqlite:///there.db")):
            raise DBAPIError("COMMIT", None, sqlite3.ProgrammingError("Cannot operate on a closed database."))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(torn())


async def test_a_change_inside_a_change_is_refused(storage: Storage) -> None:
    async with storage.change():
        with pytest.raises(RuntimeError, match="inside a change"):
            async with storage.change():
                pass


async def test_an_uncertain_commit_is_looked_up_before_the_next_record(storage: Storage) -> None:
    """The chain goes on wherever the database says it is, whichever way a broken commit went."""
    async with storage.change() as change:
        change.record(added("one"))
    storage._chain._tip = None  # what a commit that broke off leaves
    async with storage.change() as change:
        change.record(added("two"))
    assert [seq for seq, _ in await recorded(storage)] == [1, 2, 3]


async def test_a_foreign_tip_is_never_built_upon(storage: Storage) -> None:
    async with storage.change() as change:
        change.record(added("one"))
    async with storage.change() as change:
        (await change.db.scalars(select(AuditChain))).one().head = b"forged"
    storage._chain._tip = None
    async with storage.change() as change:
        change.record(added("two"))
    async with storage.read() as db:
        assert (await db.scalars(select(AuditChain.number).order_by(AuditChain.number))).all() == [1, 2]


async def test_reopening_finds_everything(database_url: str, sealer: Sealer) -> None:
    async with await Storage.create(database_url, sealer, domain="example.test") as storage:
        sealed = storage.sealer.seal(Secret(b"totp"), "user/1/totp")
        async with storage.change() as change:
            change.db.add(Setting(key="sealed", value=sealed.hex()))
            change.record(added("ada"))
    async with await Storage.open(database_url, sealer, controller="second") as storage:
        assert storage.domain == "example.test"
        async with storage.change() as change:
            value = (await change.db.get_one(Setting, "sealed")).value
            change.record(added("bob"))
        assert storage.sealer.open(bytes.fromhex(value), "user/1/totp") == Secret(b"totp")
        async with storage.read() as db:
            rows = (await db.scalars(select(AuditChain).order_by(AuditChain.number))).all()
    assert [(row.number, row.controller, row.length) for row in rows] == [(1, "main", 2), (2, "second", 2)]
