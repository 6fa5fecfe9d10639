# ruff: noqa: S608, E501 - the statements here are an attacker's
"""A tampering hand in a real database is found, and what it touched is named."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, text

from controller.audit import events
from controller.audit.verification import Broken, Intact, verify_database
from controller.storage import Sealer, Storage

Tamper = Callable[[str], Awaitable[None]]


def change(number: int) -> events.ChangeMade:
    return events.ChangeMade(actor="root", what="user.added", detail=str(number))


@pytest.fixture
async def two_chains(database_url: str, sealer: Sealer) -> Storage:
    """Two controllers were here: chain 1 with 6 records, chain 2 with 4."""
    for controller, count in (("first", 5), ("second", 3)):
        if controller == "first":
            storage = await Storage.create(database_url, sealer, controller=controller)
        else:
            storage = await Storage.open(database_url, sealer, controller=controller)
        for number in range(count):
            async with storage.change() as made:
                made.record(change(number))
        await storage.close()
    return await Storage.open(database_url, sealer, controller="reader")


async def tamper(storage: Storage, *statements: str) -> None:
    def run(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            for table in ("audit_record", "audit_chain"):  # the thief is not stopped by foreign keys
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        for statement in statements:
            connection.execute(text(statement))

    async with storage._engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql("COMMIT")
            await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        await connection.run_sync(run)
        await connection.commit()


CHAIN_1 = "(SELECT id FROM audit_chain WHERE number = 1)"
CHAIN_2 = "(SELECT id FROM audit_chain WHERE number = 2)"


async def test_an_untouched_log_is_intact(two_chains: Storage) -> None:
    async with two_chains as storage:
        result = await verify_database(storage)
        assert isinstance(result, Intact)
        assert (result.chains, result.records) == (2, 10)
        assert sorted(witness.length for witness in result.witnesses) == [4, 6]
        assert await verify_database(storage, result.witnesses) == result


@pytest.mark.parametrize(
    ("statements", "number", "seq", "why"),
    [
        ([f"UPDATE audit_record SET event = replace(event, 'root', 'eve') WHERE seq = 4 AND chain_id = {CHAIN_1}"], 1, 4, "changed"),
        ([f"UPDATE audit_record SET at = at + 1 WHERE seq = 4 AND chain_id = {CHAIN_1}"], 1, 4, "changed"),
        ([f"DELETE FROM audit_record WHERE seq = 4 AND chain_id = {CHAIN_1}"], 1, 4, "missing"),
        ([f"DELETE FROM audit_record WHERE seq = 1 AND chain_id = {CHAIN_2}"], 2, 1, "missing"),
        (
            [
                f"UPDATE audit_record SET seq = 100 WHERE seq = 3 AND chain_id = {CHAIN_1}",
                f"UPDATE audit_record SET seq = 3 WHERE seq = 4 AND chain_id = {CHAIN_1}",
                f"UPDATE audit_record SET seq = 4 WHERE seq = 100 AND chain_id = {CHAIN_1}",
            ],
            1, 3, "moved",
        ),
        (
            [
                f"DELETE FROM audit_record WHERE seq = 4 AND chain_id = {CHAIN_2}",
                "UPDATE audit_chain SET length = 3 WHERE number = 2",
            ],
            2, 0, "records at its end were removed",
        ),
        ([f"DELETE FROM audit_record WHERE seq > 3 AND chain_id = {CHAIN_1}"], 1, 4, "up to 6 were removed"),
        ([f"DELETE FROM audit_record WHERE chain_id = {CHAIN_1}", "DELETE FROM audit_chain WHERE number = 1"], 1, 0, "was removed"),
        ([f"DELETE FROM audit_record WHERE chain_id = {CHAIN_2}", "DELETE FROM audit_chain WHERE number = 2"], 2, 0, "was removed"),
        ([f"DELETE FROM audit_record WHERE chain_id = {CHAIN_2}"], 2, 1, "up to 4 were removed"),
        (["DELETE FROM setting WHERE key = 'audit_chains'"], 0, 0, "register"),
        (["UPDATE setting SET value = '1:00' WHERE key = 'audit_chains'"], 0, 0, "register"),
        (["UPDATE audit_chain SET number = 3 WHERE number = 2"], 2, 0, "was removed"),
        (["UPDATE audit_chain SET controller = 'other' WHERE number = 2"], 2, 1, "changed"),
        (["DELETE FROM audit_chain WHERE number = 2"], 0, 0, "no beginning"),
    ],
)  # fmt: skip
async def test_every_kind_of_tampering_is_found_and_named(
    two_chains: Storage, statements: list[str], number: int, seq: int, why: str
) -> None:
    async with two_chains as storage:
        await tamper(storage, *statements)
        result = await verify_database(storage)
        assert isinstance(result, Broken)
        finding = result.findings[0]
        assert (finding.number, finding.seq) == (number, seq), result.findings
        assert why in finding.why


async def test_an_old_state_of_a_finished_chain_put_back_is_found_by_the_chain_after_it(
    database_url: str, sealer: Sealer
) -> None:
    """Law 4: the thief kept a true head of an earlier time, but chain 2 saw a later one."""
    async with await Storage.create(database_url, sealer) as storage:
        for number in range(3):
            async with storage.change() as made:
                made.record(change(number))
        async with storage.read() as db:
            kept = (await db.execute(text("SELECT length, head FROM audit_chain"))).one()
        async with storage.change() as made:
            made.record(change(99))
    async with await Storage.open(database_url, sealer) as storage:
        async with storage.change() as made:
            made.record(change(0))
        async with storage.change() as made:
            await made.db.execute(text("DELETE FROM audit_record WHERE event LIKE '%\"99\"%'"))
            await made.db.execute(
                text("UPDATE audit_chain SET length = :length, head = :head WHERE number = 1"), kept._asdict()
            )
        result = await verify_database(storage)
    assert isinstance(result, Broken)
    assert (result.findings[0].number, result.findings[0].seq) == (1, 5)


async def test_an_old_state_of_everything_is_found_by_a_witness_kept_elsewhere(
    database_url: str, sealer: Sealer
) -> None:
    async with await Storage.create(database_url, sealer) as storage:
        async with storage.change() as made:
            made.record(change(0))
        async with storage.read() as db:
            kept = (await db.execute(text("SELECT length, head FROM audit_chain"))).one()
        async with storage.change() as made:
            made.record(change(99))
        seen = await verify_database(storage)
        assert isinstance(seen, Intact)
        async with storage.change() as made:
            await made.db.execute(text("DELETE FROM audit_record WHERE event LIKE '%\"99\"%'"))
            await made.db.execute(text("UPDATE audit_chain SET length = :length, head = :head"), kept._asdict())
        assert isinstance(await verify_database(storage), Intact)  # the limit that chain.py names
        result = await verify_database(storage, seen.witnesses)
    assert isinstance(result, Broken)
    assert result.findings[0].seq == 3


async def test_another_key_cannot_forge_a_chain(two_chains: Storage) -> None:
    async with two_chains as storage:
        forger = Storage(storage._engine, storage._url, Sealer.fresh(), "forger", storage.clock)
        async with forger.change() as made:
            made.record(change(0))
        assert isinstance(await verify_database(storage), Broken)


async def test_pages_do_not_hide_anything(sqlite_storage: Storage) -> None:
    for number in range(2_500):
        sqlite_storage.audit.note(change(number))
    await sqlite_storage.audit.flush()
    result = await verify_database(sqlite_storage)
    assert isinstance(result, Intact)
    assert result.records == 2_501
    await tamper(sqlite_storage, "DELETE FROM audit_record WHERE seq = 2001")
    broken = await verify_database(sqlite_storage)
    assert isinstance(broken, Broken)
    assert broken.findings[0].seq == 2_001
