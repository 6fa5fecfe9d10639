"""Noted events are batched, bounded and counted; an outage delays them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from controller.audit.events import Event, EventsDropped, EventsKeptBack, KnockRefused
from controller.audit.reading import follow, newest
from controller.audit.restraint import MOST
from controller.audit.writer import BATCH_LIMIT, Audit, Stamped
from controller.errors import StorageUnavailable
from controller.storage import Storage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def knock(number: int) -> KnockRefused:
    return KnockRefused(where="gateway/edge", key_id=f"device/{number}", source="192.0.2.1", code="old_time")


class Database:
    """Stands for the storage: answers, is away, or refuses one batch."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.failure: Exception | None = None
        self.tried = asyncio.Event()

    async def write(self, batch: Sequence[Stamped]) -> None:
        self.tried.set()
        if self.failure:
            raise self.failure
        self.batches.append([event for _, event in batch])


async def test_many_events_are_few_transactions_in_order() -> None:
    database = Database()
    audit = Audit(database.write, lambda: NOW)
    events = [knock(number) for number in range(BATCH_LIMIT + 10)]
    for event in events:
        audit.note(event)
    await audit.flush()
    assert [len(batch) for batch in database.batches] == [BATCH_LIMIT, 10]
    assert [event for batch in database.batches for event in batch] == events


async def test_what_does_not_fit_is_counted_and_the_count_recorded() -> None:
    database = Database()
    audit = Audit(database.write, lambda: NOW, limit=3)
    for number in range(10):
        audit.note(knock(number))
    assert (audit.waiting, audit.dropped) == (3, 7)
    await audit.flush()
    assert database.batches == [[knock(0), knock(1), knock(2), EventsDropped(count=7)]]
    assert (audit.waiting, audit.dropped) == (0, 0)


async def test_events_wait_while_the_database_is_away() -> None:
    database = Database()
    database.failure = StorageUnavailable("away")
    audit = Audit(database.write, lambda: NOW)
    audit.start()
    audit.note(knock(1))
    await database.tried.wait()
    with pytest.raises(StorageUnavailable):
        await audit.flush()
    assert audit.waiting == 1
    database.failure = None
    await audit.close()
    assert database.batches == [[knock(1)]]


async def test_closing_without_a_database_ends(caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    database.failure = StorageUnavailable("away")
    audit = Audit(database.write, lambda: NOW)
    audit.start()
    audit.note(knock(1))
    await audit.close()
    assert audit.waiting == 1


async def test_a_batch_that_cannot_be_written_does_not_stop_the_log() -> None:
    database = Database()
    database.failure = ValueError("a bug")
    audit = Audit(database.write, lambda: NOW)
    audit.note(knock(1))
    await audit.flush()
    database.failure = None
    audit.note(knock(2))
    await audit.flush()
    assert database.batches[-1][0] == knock(2)


async def test_a_failed_batch_is_counted() -> None:
    failures = [ValueError("a bug")]
    written: list[Event] = []

    async def write(batch: Sequence[Stamped]) -> None:
        if failures:
            raise failures.pop()
        written.extend(event for _, event in batch)

    audit = Audit(write, lambda: NOW)
    audit.note(knock(1))
    await audit.flush()
    assert written == [EventsDropped(count=1)]


async def test_noted_events_are_in_the_database_after_a_flush(storage: Storage) -> None:
    for number in range(1_200):
        storage.audit.note(knock(number))
    await storage.audit.flush()
    async with storage.read() as db:
        last = await newest(db, 3)
    assert [entry.event["key_id"] for entry in last] == ["device/1197", "device/1198", "device/1199"]
    assert last[-1].document()["kind"] == "knock.refused"


async def test_following_shows_the_past_and_then_what_comes(storage: Storage) -> None:
    storage.audit.note(knock(1))
    await storage.audit.flush()
    entries = follow(storage, 1)
    assert (await anext(entries)).event["key_id"] == "device/1"
    waiting = asyncio.ensure_future(anext(entries))
    await asyncio.sleep(0)
    storage.audit.note(knock(2))
    assert (await waiting).event["key_id"] == "device/2"
    await entries.aclose()


async def test_everything_is_read_page_by_page(storage: Storage) -> None:
    from controller.audit import reading

    for number in range(1_500):
        storage.audit.note(knock(number))
    await storage.audit.flush()
    async with storage.read() as db:
        keys = [entry.event.get("key_id") async for entry in reading.everything(db)]
        assert keys[1:] == [f"device/{number}" for number in range(1_500)]
        assert [entry async for entry in reading.everything(db, since=datetime(2100, 1, 1, tzinfo=UTC))] == []
        assert [entry async for entry in reading.everything(db, until=NOW.replace(year=2001))] == []


async def test_a_flood_of_refusals_is_a_count() -> None:
    database = Database()
    audit = Audit(database.write, lambda: NOW)
    audit.start()
    for _ in range(5_000):
        audit.note(knock(1))
    audit.note(knock(2))
    await audit.close()
    events = [event for batch in database.batches for event in batch]
    kept_back = EventsKeptBack(of="knock.refused", origin="device/1", count=5_000 - MOST)
    assert events == [knock(1)] * MOST + [knock(2), kept_back]
