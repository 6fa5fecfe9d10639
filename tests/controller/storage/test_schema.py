# ruff: noqa: ASYNC240 - a test may wait for its own small files
"""Opening a database says in one line what is wrong with it; migrations make what the models say."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from controller.storage import Sealer, Storage, StorageError, StorageUnavailable
from controller.storage.models import Base
from controller.storage.schema import revisions
from controller.storage.upgrade import alembic_config


async def execute(url: str, *statements: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def tables(url: str) -> set[str]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    await engine.dispose()
    return found


async def revision_of(url: str) -> str:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    await engine.dispose()
    return str(found)


async def test_migrations_make_what_the_models_say(storage: Storage) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    async with storage._engine.connect() as connection:
        found = await connection.run_sync(differences)
    assert found == [], "models.py changed: write a migration (python -m controller.storage.migrations)"


def test_the_numbers_of_the_files_are_the_revisions_in_their_order() -> None:
    """A start asks the names of files, so that it need not import Alembic."""
    scripts = ScriptDirectory.from_config(alembic_config())
    assert revisions() == [each.revision for each in scripts.walk_revisions()][::-1]
    assert revisions()[-1] == scripts.get_current_head()


async def test_another_master_key_is_refused(database_url: str, sealer: Sealer) -> None:
    await (await Storage.create(database_url, sealer)).close()
    with pytest.raises(StorageError, match=r"master key is not the one.*; put back the master.key"):
        await Storage.open(database_url, Sealer.fresh())


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database_url: str, sealer: Sealer) -> None:
    await (await Storage.create(database_url, sealer)).close()
    newest = await revision_of(database_url)
    await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"newer gloam \(schema 9999\); upgrade"):
        await Storage.open(database_url, sealer)
    await execute(database_url, f"UPDATE alembic_version SET version_num = '{newest}'")  # noqa: S608 - our own
    await (await Storage.open(database_url, sealer)).close()


async def test_a_database_that_holds_a_perimeter_is_not_filled_again(database_url: str, sealer: Sealer) -> None:
    await (await Storage.create(database_url, sealer)).close()
    await (await Storage.open(database_url, sealer)).close()
    with pytest.raises(StorageError, match="already holds a perimeter; name an empty"):
        await Storage.create(database_url, sealer)
    await Storage.discard(database_url)
    await (await Storage.open(database_url, sealer)).close()


async def test_what_an_interrupted_init_left_is_replaced(database_url: str, sealer: Sealer) -> None:
    await (await Storage.create(database_url, sealer, domain="one.test")).close()
    other = Sealer.fresh()
    async with await Storage.create(database_url, other, domain="two.test") as storage:
        assert storage.domain == "two.test"
    await Storage.discard(database_url)
    assert await tables(database_url) == set()


async def test_somebody_elses_database_is_left_alone(database_url: str, sealer: Sealer) -> None:
    await execute(database_url, "CREATE TABLE precious (id INTEGER)")
    with pytest.raises(StorageError, match="is not empty; name an empty database"):
        await Storage.create(database_url, sealer)
    with pytest.raises(StorageError, match="holds no perimeter"):
        await Storage.open(database_url, sealer)
    assert await tables(database_url) == {"precious"}


async def test_a_migration_that_fails_leaves_nothing(
    database_url: str, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controller.storage import engine

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_put", fail)  # after the tables were made, before what belongs into them
        with pytest.raises(RuntimeError, match="in the middle"):
            await Storage.create(database_url, sealer)
    assert await tables(database_url) == set()
    await (await Storage.create(database_url, sealer)).close()


async def test_a_missing_sqlite_file_is_not_made(tmp_path: Path, sealer: Sealer) -> None:
    with pytest.raises(StorageError, match=r"gloam.db is missing; run gloam-controller init"):
        await Storage.open(f"sqlite:///{tmp_path / 'gloam.db'}", sealer)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="cannot be made: No such file or directory"):
        await Storage.create(f"sqlite:///{tmp_path / 'none' / 'gloam.db'}", sealer)


async def test_the_sqlite_file_is_for_its_owner_alone(tmp_path: Path, sealer: Sealer) -> None:
    async with await Storage.create(f"sqlite:///{tmp_path / 'gloam.db'}", sealer):
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


async def test_a_damaged_file_says_so(tmp_path: Path, sealer: Sealer) -> None:
    path = tmp_path / "gloam.db"
    path.write_bytes(b"this is no database, whatever its name may say " * 100)
    with pytest.raises(StorageError, match=r"is damaged.*restore it from a backup") as caught:
        await Storage.open(f"sqlite:///{path}", sealer)
    assert not isinstance(caught.value, StorageUnavailable)


@pytest.mark.parametrize(
    "url", ["", "gloam.db", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=memory", "sqlite://h/a.db"]
)  # fmt: skip
async def test_urls_that_name_no_database_of_ours(url: str, sealer: Sealer) -> None:
    with pytest.raises(StorageError, match=r"use sqlite:///gloam\.db or postgresql://"):
        await Storage.open(url, sealer)


async def test_a_postgresql_that_is_not_there(tmp_path: Path, sealer: Sealer) -> None:
    with pytest.raises(StorageUnavailable, match=r"does not answer.*check that the database runs"):
        await Storage.open(f"postgresql://gloam:hunter2@/gloam?host={tmp_path}", sealer)


async def test_a_missing_postgresql_database_and_the_password_is_not_shown(
    postgresql_database: str, sealer: Sealer
) -> None:
    missing = postgresql_database.replace("gloam_test_", "gloam_none_").replace("gloam@", "gloam:hunter2@")
    with pytest.raises(StorageError, match=r"does not exist; create it, as in createdb gloam_none_") as caught:
        await Storage.open(missing, sealer)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StorageError, match=r"refuses the login|does not exist") as caught:
        await Storage.open(postgresql_database.replace("gloam@", "nobody_of_that_name@"), sealer)
    assert not isinstance(caught.value, StorageUnavailable)
