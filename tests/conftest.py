"""What tests of many packages need: databases, and gloam's commands as processes.

Databases are SQLite files, and a real PostgreSQL server of our own, started once a test process, by the first test that
asks, and stopped at its end. `--database URL` names one to use instead (its user must be allowed to create databases).
"""

import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

from controller.storage import Sealer, Storage
from lab.processes import Spawn, execute
from tests.forked import Forks
from tests.postgresql import PostgresqlServer, new_database

settings.register_profile("gloam", deadline=None)  # what takes how long is measured in bench/, not here
settings.load_profile("gloam")


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background jobs ignore Ctrl-C, and their children with them; the processes of tests must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stories first: they take longest, and the short tests behind them keep every process busy to the end."""
    items.sort(key=lambda item: "scenarios" not in item.path.parts)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", metavar="URL", help="a PostgreSQL server to test on instead of one of our own")
    parser.addoption("--execute", action="store_true", help="start Python anew for each command")


@pytest.fixture(scope="session")
def spawn(request: pytest.FixtureRequest) -> Iterator[Spawn]:
    """How tests start gloam's commands."""
    if request.config.getoption("--execute"):
        yield execute
        return
    with Forks() as forks:
        yield forks.spawn


@pytest.fixture(scope="session")
def postgresql_url(request: pytest.FixtureRequest) -> Iterator[URL]:
    """A server, as the URL of a database one can connect to in order to create others."""
    if named := request.config.getoption("--database"):
        yield make_url(named).set(drivername="postgresql+asyncpg")
        return
    with tempfile.TemporaryDirectory(prefix="gloam-pg-") as directory:
        server = PostgresqlServer(Path(directory))
        server.initialise()
        server.start()
        yield server.url
        server.stop()


@pytest.fixture
def own_postgresql() -> Iterator[PostgresqlServer]:
    """A server of the test's own, to be stopped and started."""
    with tempfile.TemporaryDirectory(prefix="gloam-pg-") as directory:
        server = PostgresqlServer(Path(directory))
        server.initialise()
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def postgresql_database(postgresql_url: URL) -> AsyncIterator[str]:
    """The URL of a new, empty database, dropped after the test."""
    async with new_database(postgresql_url) as url:
        yield url


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'gloam.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database: each test that asks runs on SQLite and on PostgreSQL."""
    url = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(url, str)
    return url


@pytest.fixture
def sealer() -> Sealer:
    return Sealer.fresh()


@pytest.fixture
async def storage(database_url: str, sealer: Sealer) -> AsyncIterator[Storage]:
    """An open storage on each kind of database."""
    async with await Storage.create(database_url, sealer, domain="example.test") as opened:
        yield opened


@pytest.fixture
async def sqlite_storage(sqlite_database: str, sealer: Sealer) -> AsyncIterator[Storage]:
    """An open storage on SQLite, for tests that are about something else."""
    async with await Storage.create(sqlite_database, sealer, domain="example.test") as opened:
        yield opened
