"""A dump of every table, from each kind of database into each kind."""

import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from controller.errors import StorageError
from controller.safekeeping.dump import FORMAT, VERSION, Contents, Header, dump, load, read
from controller.storage import Storage
from controller.storage.models import Base, Group, User
from controller.storage.schema import revision_of
from controller.storage.sealing import Sealer
from tests.controller.perimeter import Perimeter

NOW = datetime(2025, 6, 1, tzinfo=UTC)


async def dumped(storage: Storage, **changes: Any) -> bytes:
    async with storage.read() as db:
        schema = await (await db.connection()).run_sync(revision_of)
        fields: dict[str, Any] = {
            "format": FORMAT, "version": VERSION, "gloam": "0.1", "schema": schema, "made_at": NOW,
            "controller": "main", "domain": "example.test", "config": "", "master_key": "", **changes,
        }  # fmt: skip
        return await dump(db, Header.model_validate(fields))


async def rows(storage: Storage) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    async with storage.read() as db:
        for table in Base.metadata.sorted_tables:
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in await db.execute(query)]
    found["setting"] = [row for row in found["setting"] if row[0] != "initialised"]
    return found


async def refilled(url: str, sealer: Sealer, contents: Contents) -> Storage:
    return await Storage.refill(url, sealer, lambda connection: load(connection, contents))


async def test_every_row_of_one_database_is_the_same_in_another(
    perimeter: Perimeter, database_url: str, sealer: Sealer, tmp_path: Any
) -> None:
    if database_url == f"sqlite:///{tmp_path / 'gloam.db'}":
        database_url = f"sqlite:///{tmp_path / 'other.db'}"
    await perimeter.add_user("alice")
    await perimeter.enrol("alice")
    top, middle, bottom = (Group(id=uuid4(), name=name, created_at=NOW) for name in ("zz", "mm", "aa"))
    middle.parent_id, bottom.parent_id = top.id, middle.id
    async with perimeter.storage.change() as change:
        for group in (top, middle, bottom):
            change.db.add(group)
            await change.db.flush()
        (await change.db.scalars(select(User))).one().name = 'al"ice\n💡'
    await perimeter.storage.audit.flush()
    before = await rows(perimeter.storage)
    assert before["audit_record"]
    async with await refilled(database_url, sealer, read(await dumped(perimeter.storage), "it")) as storage:
        assert await rows(storage) == before
        assert storage.domain == "example.test"
    await (await Storage.open(database_url, sealer)).close()
    with pytest.raises(StorageError, match="already holds a perimeter"):
        await refilled(database_url, sealer, read(await dumped(perimeter.storage), "it"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: lines[:-1], "not a whole backup"),
        (lambda lines: [line for line in lines if not isinstance(line, list)], "not a whole backup"),
        (lambda lines: [*lines, lines[-1]], "not a whole backup"),
        (lambda lines: lines[1:], "no backup of a controller"),
        (lambda lines: [{**lines[0], "version": 2}, *lines[1:]], "version 2"),
        (lambda lines: [{**lines[0], "more": 1}, *lines[1:]], "not a whole backup"),
        (lambda lines: [lines[0], [1], *lines[1:]], "not a whole backup"),
        (lambda _: [], "not a whole backup"),
        (lambda _: [7], "no backup of a controller"),
    ],
)
async def test_what_is_no_whole_dump_is_refused(perimeter: Perimeter, change: Callable[..., Any], what: str) -> None:
    lines = [json.loads(line) for line in zlib.decompress(await dumped(perimeter.storage)).splitlines()]
    changed = "\n".join(json.dumps(line) for line in change(lines)).encode()
    with pytest.raises(StorageError, match=what):
        read(zlib.compress(changed), "it")
    for broken in (b"", b"hello", zlib.compress(changed)[:-3]):
        with pytest.raises(StorageError, match="not a whole backup"):
            read(broken, "it")


async def test_a_dump_of_a_newer_schema_is_refused_and_leaves_nothing(
    perimeter: Perimeter, sealer: Sealer, tmp_path: Any
) -> None:
    contents = read(await dumped(perimeter.storage, schema="9999"), "it")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with pytest.raises(StorageError, match="newer gloam"):
        await refilled(url, sealer, contents)
    await (await Storage.create(url, sealer)).close()


async def test_a_dump_of_an_older_schema_is_migrated(perimeter: Perimeter, sealer: Sealer, tmp_path: Any) -> None:
    """What the first schema knew of: its tables and columns alone."""
    whole = read(await dumped(perimeter.storage), "it")
    header = whole.header.model_copy(update={"schema_": "0001"})
    columns, found = whole.tables["authority"]
    kept = [column for column in columns if column != "issuing_at"]
    old = [[value for column, value in zip(columns, row, strict=True) if column != "issuing_at"] for row in found]
    tables = {"setting": whole.tables["setting"], "authority": (kept, old)}
    async with await refilled(f"sqlite:///{tmp_path / 'new.db'}", sealer, Contents(header, tables)) as storage:
        async with storage.read() as db:
            authorities = [tuple(row) for row in await db.execute(select(Base.metadata.tables["authority"]))]
        assert len(authorities) == len(found)


async def test_another_master_key_is_refused(perimeter: Perimeter, tmp_path: Any) -> None:
    contents = read(await dumped(perimeter.storage), "it")
    with pytest.raises(StorageError, match="master key is not the one"):
        await refilled(f"sqlite:///{tmp_path / 'new.db'}", Sealer.fresh(), contents)
