"""Somebody who can write to the database rewrites what happened, and `audit verify` names the record.

Every damage is undone again, and the log must then be whole: what is found is the damage and nothing else.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.perimeter import Perimeter

COLUMNS = "chain_id, seq, at, kind, event, mac"


class Records:
    """The table of audit records, under an attacker's hands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            yield database

    def seq(self, kind: str, nth: int = 0) -> tuple[bytes, int]:
        """Which record is the nth of its kind."""
        with self._open() as database:
            rows = database.execute(
                "SELECT chain_id, seq FROM audit_record WHERE kind = ? ORDER BY at, seq", (kind,)
            ).fetchall()
        return (rows[nth][0], rows[nth][1])

    def change(self, statement: str, *values: object) -> None:
        with self._open() as database:
            assert database.execute(statement, values).rowcount > 0, statement

    @contextlib.contextmanager
    def put_back(self) -> Iterator[None]:
        """Leaves the records, chains and register as they were."""
        with self._open() as database:
            before = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - our own names
        yield
        with self._open() as database:
            for table, rows in before.items():
                marks = ", ".join("?" * len(rows[0]))
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - the same
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - the same


TABLES = ("audit_record", "audit_chain", "setting")


def one_letter(records: Records) -> tuple[int, int]:
    chain, seq = records.seq("change.made", 1)
    records.change(
        "UPDATE audit_record SET event = replace(event, 'admin/', 'bdmin/') WHERE chain_id = ? AND seq = ?", chain, seq
    )
    return seq, seq


def removed(records: Records) -> tuple[int, int]:
    chain, seq = records.seq("change.made", 1)
    records.change("DELETE FROM audit_record WHERE chain_id = ? AND seq = ?", chain, seq)
    return seq, seq


def swapped(records: Records) -> tuple[int, int]:
    chain, first = records.seq("change.made", 1)
    _, second = records.seq("change.made", 2)
    for old, new in ((first, -1), (second, first), (-1, second)):
        records.change("UPDATE audit_record SET seq = ? WHERE chain_id = ? AND seq = ?", new, chain, old)
    return first, first


def moved_in_time(records: Records) -> tuple[int, int]:
    chain, seq = records.seq("invite.created")
    records.change(
        "UPDATE audit_record SET at = replace(at, substr(at, 1, 4), '2020') WHERE chain_id = ? AND seq = ?", chain, seq
    )
    return seq, seq


def end_cut_off(records: Records) -> tuple[int, int]:
    """From the invite on, nothing happened; the chain's own length is made to agree."""
    chain, seq = records.seq("invite.created")
    records.change("DELETE FROM audit_record WHERE chain_id = ? AND seq >= ?", chain, seq)
    records.change("UPDATE audit_chain SET length = ? WHERE id = ?", seq - 1, chain)
    return 0, seq


def chain_removed(records: Records) -> tuple[int, int]:
    chain, _ = records.seq("invite.created")
    records.change("DELETE FROM audit_record WHERE chain_id = ?", chain)
    records.change("DELETE FROM audit_chain WHERE id = ?", chain)
    return 0, 0


DAMAGES = [one_letter, removed, swapped, moved_in_time, end_cut_off, chain_removed]


@pytest.fixture
async def perimeter() -> AsyncIterator[Perimeter]:
    """A controller on SQLite with something in its log."""
    async with Perimeter() as made:
        await made.start_controller()
        for name in ("alice", "bob", "carol"):
            await made.add_user(name)
        await made.admin_json("invite", "alice")
        yield made


async def whole(perimeter: Perimeter) -> None:
    verified = await perimeter.admin("audit", "verify", "--json")
    assert verified.code == 0, verified
    assert verified.json["intact"]
    assert verified.json["records"] >= 6


async def found(perimeter: Perimeter, seqs: tuple[int, int]) -> None:
    """`audit verify` says no, and which: one of these records (0: the chain as a whole)."""
    verified = await perimeter.admin("audit", "verify")
    assert verified.code == 1, verified
    named = {f"record {seq} of chain" if seq else "chain" for seq in seqs}
    assert any(each in verified.out for each in named), (named, verified)
    assert "Traceback" not in verified.err


async def try_all(perimeter: Perimeter, records: Records) -> None:
    await whole(perimeter)
    for damage in DAMAGES:
        with records.put_back():
            await found(perimeter, damage(records))
    await whole(perimeter)


async def test_while_the_controller_runs(perimeter: Perimeter) -> None:
    await try_all(perimeter, Records(perimeter.controller_state / "gloam.db"))
    assert perimeter.processes["controller"].running, perimeter.processes["controller"].tail(60)
    await perimeter.add_user("dave")  # it writes on at the end of a chain that is whole
    await whole(perimeter)
    assert "Traceback" not in perimeter.processes["controller"].log.read_text()


async def test_while_it_is_stopped_and_one_byte_of_the_file(perimeter: Perimeter) -> None:
    assert await perimeter.processes["controller"].stop() == 0
    path = perimeter.controller_state / "gloam.db"
    records = Records(path)
    await try_all(perimeter, records)

    data = path.read_bytes()
    said = find_once(data, b'"detail":"carol', lambda place: place + len('"detail":"'))
    path.write_bytes(data[:said] + b"d" + data[said + 1 :])
    chain_and_seq = [row for row in rows_of(path) if '"darol' in row[2]]
    assert len(chain_and_seq) == 1
    await found(perimeter, (chain_and_seq[0][1],) * 2)
    document = (await perimeter.admin("audit", "verify", "--json")).json
    assert (document["intact"], len(document["findings"])) == (False, 1)
    assert len(path.read_bytes()) == len(data)
    path.write_bytes(data)
    await whole(perimeter)


def find_once(data: bytes, text: bytes, place: Callable[[int], int]) -> int:
    assert data.count(text) == 1, data.count(text)
    return place(data.index(text))


def rows_of(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT chain_id, seq, event FROM audit_record").fetchall()
