"""A whole database as lines of JSON, from any kind of database and into any kind.

Laws:

1. One view: a dump is the database as it was at one moment, however long it takes and whatever goes on meanwhile.
2. A dump says its version, its schema, and at its end how much there was; what does not add up is refused before
   anything is written.
3. It is loaded into tables of the very schema it was made of, then migrated: an older dump is as good as an older
   database, a newer one is refused.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, MetaData, Table, Uuid, select
from sqlalchemy.ext.asyncio import AsyncSession

from controller.errors import StorageError
from controller.storage.models import Base
from controller.storage.schema import at_revision

FORMAT: Final = "gloam backup"
VERSION: Final = 1
CHUNK: Final = 500  # rows inserted at once
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Row = list[Any]


class Header(BaseModel):
    """The first line of a dump, before its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    format: str
    version: int
    gloam: str
    schema_: str = Field(alias="schema")
    made_at: datetime
    controller: str
    domain: str
    config: str
    master_key: str = Field(repr=False)


@dataclass(frozen=True, slots=True)
class Contents:
    """A dump that was read whole: for each table its columns and rows."""

    header: Header
    tables: Mapping[str, tuple[Sequence[str], Sequence[Row]]]


async def dump(db: AsyncSession, header: Header) -> bytes:
    """The database that `db` reads, compressed. `db` is one transaction (law 1)."""
    packer = zlib.compressobj(6)
    packed = bytearray()
    count = 0

    def line(value: object) -> None:
        packed.extend(packer.compress(json.dumps(value, separators=(",", ":")).encode() + b"\n"))

    line(json.loads(header.model_dump_json(by_alias=True)))
    for table in Base.metadata.sorted_tables:
        line({"table": table.name, "columns": [column.name for column in table.columns]})
        async for row in await db.stream(select(table).order_by(*table.primary_key.columns)):
            line([_written(value) for value in row])
            count += 1
    line({"end": count})
    return bytes(packed + packer.flush())


def read(data: bytes, what: str) -> Contents:
    """What is in a dump. Raises StorageError if it is none, of another version, or not whole (law 2)."""
    try:
        lines = iter(_lines(data))
        header = _header(next(lines), what)
        tables: dict[str, tuple[Sequence[str], list[Row]]] = {}
        rows: list[Row] | None = None
        count = 0
        for value in lines:
            match value:
                case {"table": str(name), "columns": list(columns)}:
                    rows = []
                    tables[name] = (columns, rows)
                case list() if rows is not None:
                    rows.append(value)
                    count += 1
                case {"end": int(end)} if end == count and next(lines, None) is None:
                    return Contents(header, tables)
                case _:
                    break
    except (zlib.error, ValueError, StopIteration):
        pass
    raise StorageError(f"{what} is not a whole backup", "take another copy of it")


def load(connection: Connection, contents: Contents) -> None:
    """Fills an empty database with a dump, in the connection's transaction. Raises StorageError for a newer one."""
    at_revision(connection, contents.header.schema_)
    found = MetaData()
    found.reflect(connection)
    for name in [table.name for table in found.sorted_tables if table.name in contents.tables]:
        columns, rows = contents.tables[name]
        table = found.tables[name]
        for chunk in _in_order(table, columns, rows):
            values = [dict(zip(columns, _read_row(table, columns, row), strict=True)) for row in chunk]
            connection.execute(table.insert(), values)


def _header(value: object, what: str) -> Header:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise StorageError(f"{what} is no backup of a controller", "name a file that gloam-controller backup wrote")
    if value.get("version") != VERSION:
        raise StorageError(f"{what} is a backup of version {value.get('version')!a}", "restore it with a newer gloam")
    try:
        return Header.model_validate(value)
    except ValidationError:
        raise StorageError(f"{what} is not a whole backup", "take another copy of it") from None


def _lines(data: bytes) -> Iterator[Any]:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("not the whole of it")
    return (json.loads(line) for line in text.splitlines())


def _written(value: object) -> object:
    """A value of a row, so that JSON and every database can hold it: times as microseconds, as the tables do."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return {"b": base64.b64encode(value).decode()}
        case UUID():
            return {"u": value.hex}
        case datetime():
            return (value - _EPOCH) // timedelta(microseconds=1)
        case _:
            raise TypeError(f"a backup has no word for a {type(value).__name__}")


def _read_row(table: Table, columns: Sequence[str], row: Row) -> list[object]:
    return [_read_value(table, name, value) for name, value in zip(columns, row, strict=True)]


def _read_value(table: Table, column: str, value: object) -> object:
    match value:
        case {"b": str(text)}:
            return base64.b64decode(text)
        case {"u": str(text)}:  # SQLite keeps the digits
            return UUID(text) if isinstance(table.columns[column].type, Uuid) else text
        case _:
            return value


def _in_order(table: Table, columns: Sequence[str], rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Rows in portions, each after those it refers to: groups in groups."""
    own = [key.parent.name for key in table.foreign_keys if key.column.table is table]
    if own:
        yield from _parents_first(columns.index("id"), columns.index(own[0]), rows)
        return
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _parents_first(identifier: int, parent: int, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    left, known = list(rows), [None]
    while left:
        ready = [row for row in left if row[parent] in known]
        if not ready:
            raise StorageError("the backup does not add up: rows refer to what is not there", "take another copy of it")
        known += [row[identifier] for row in ready]
        left = [row for row in left if row not in ready]
        yield ready
