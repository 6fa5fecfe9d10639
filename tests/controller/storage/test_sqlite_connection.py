"""A connection that is stopped while it closes, as SQLAlchemy does with cancelled queries, is closed all the same."""

import asyncio

import pytest

from controller.storage.sqlite_connection import SqliteConnection

PATIENCE = 60


@pytest.mark.parametrize("stops", [1, 2])
async def test_a_close_ends_whoever_stops_the_connection_meanwhile(stops: int) -> None:
    connection = await SqliteConnection(":memory:")
    closing = asyncio.create_task(connection.close())
    await asyncio.sleep(0)  # it waits for its thread now
    for _ in range(stops):
        connection.stop()
    async with asyncio.timeout(PATIENCE):
        await closing
    connection._thread.join(PATIENCE)
    assert not connection._thread.is_alive()


async def test_a_stopped_connection_is_over() -> None:
    connection = await SqliteConnection(":memory:")
    stopped = connection.stop()
    assert stopped is not None
    await stopped
    assert connection.stop() is None
    await connection.close()
