"""A database that goes away: failures within seconds, nothing acknowledged, and it goes on when it is back."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL, select, text

from controller.audit import events
from controller.audit.verification import Intact, verify_database
from controller.storage import Sealer, Storage, StorageUnavailable
from controller.storage.models import User

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def add(storage: Storage, name: str) -> None:
    async with storage.change() as change:
        change.db.add(User(name=name, created_at=NOW))
        change.record(events.ChangeMade(actor="root", what="user.added", detail=name))


async def names(storage: Storage) -> list[str]:
    async with storage.read() as db:
        return list((await db.scalars(select(User.name).order_by(User.name))).all())


async def test_a_server_that_stops_and_comes_back(own_postgresql: "PostgresqlServer", sealer: Sealer) -> None:  # type: ignore[name-defined]  # noqa: F821 - conftest's
    url = own_postgresql.url.render_as_string(hide_password=False)
    async with await Storage.create(url, sealer) as storage:
        await add(storage, "ada")
        own_postgresql.stop()
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await add(storage, "bob")
            with pytest.raises(StorageUnavailable):
                await names(storage)
        storage.audit.note(events.ControllerStarted(controller="main"))
        with pytest.raises(StorageUnavailable):
            await storage.audit.flush()
        own_postgresql.start()
        await add(storage, "bob")
        await storage.audit.flush()
        assert await names(storage) == ["ada", "bob"]
        result = await verify_database(storage)
        assert isinstance(result, Intact)
        assert result.records == 4


async def test_a_connection_cut_inside_a_change(postgresql_database: str, postgresql_url: URL, sealer: Sealer) -> None:
    async with await Storage.create(postgresql_database, sealer) as storage:
        await add(storage, "ada")
        with pytest.raises(StorageUnavailable):  # noqa: PT012 - the end of the block is the point
            async with storage.change() as change:
                change.db.add(User(name="bob", created_at=NOW))
                change.record(events.ChangeMade(actor="root", what="user.added", detail="bob"))
                await change.db.flush()
                pid = (await change.db.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                async with storage.read() as other:
                    await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        await add(storage, "eve")
        assert await names(storage) == ["ada", "eve"]
        assert isinstance(await verify_database(storage), Intact)


async def test_a_full_disk_is_an_outage(sqlite_storage: Storage) -> None:
    await add(sqlite_storage, "ada")
    with pytest.raises(StorageUnavailable, match="full"):  # noqa: PT012 - the same
        async with sqlite_storage.change() as change:
            await change.db.execute(text("PRAGMA max_page_count = 1"))
            for number in range(2_000):
                change.db.add(User(name=f"user-{number}", created_at=NOW))
    assert await names(sqlite_storage) == ["ada"]


async def test_a_locked_file_is_an_outage(sqlite_storage: Storage, tmp_path: Path) -> None:
    import sqlite3

    other = sqlite3.connect(tmp_path / "gloam.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with sqlite_storage._engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    with pytest.raises(StorageUnavailable, match="locked"):
        await add(sqlite_storage, "ada")
    other.execute("ROLLBACK")
    other.close()
    await add(sqlite_storage, "ada")


async def test_what_is_promised_of_each_connection(storage: Storage) -> None:
    async with storage.change() as change:
        if change.db.bind.dialect.name == "sqlite":  # type: ignore[union-attr]
            assert (await change.db.execute(text("PRAGMA synchronous"))).scalar() == 2
            assert (await change.db.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
            assert (await change.db.execute(text("PRAGMA foreign_keys"))).scalar() == 1
        else:
            assert (await change.db.execute(text("SHOW synchronous_commit"))).scalar() == "on"
