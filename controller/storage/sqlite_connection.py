"""SQLite connections that can always be closed.

aiosqlite's connection has a thread, which answers what waits for it until it is told to stop. SQLAlchemy tells it so
when a query is cancelled, while the connection is being closed already: that close then waits for an answer to a second
stop, from a thread that is gone, and with it whoever shuts the event loop down. Here a thread is told to stop once.
"""

import asyncio
import sqlite3
from functools import partial
from typing import Any

import aiosqlite

ROWS_AT_ONCE = 64


class SqliteConnection(aiosqlite.Connection):
    """aiosqlite's, whose `stop` may be called again."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(partial(sqlite3.connect, database, **options), ROWS_AT_ONCE)
        self._thread.daemon = True  # one that nobody closes does not keep the process
        self._stopping = False

    def stop(self) -> asyncio.Future[Any] | None:
        """Ends the thread after what it has been given; the future is done then. None if it was told before."""
        if self._stopping:
            return None
        self._stopping = True
        return super().stop()
