"""`gloam demo` shows everything, to root and to anybody, and leaves nothing behind: not even when it is interrupted."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.addresses import TLS_PORT
from lab.processes import script

PATIENCE = 180
NOBODY = 65_534
HELD = "held"
INTERRUPTED = 128 + signal.SIGINT
TITLES = (
    "A controller and a gateway start, dark",
    "1. A stranger scans",
    "2. Alice enrols her laptop and logs in with password and TOTP",
    "3. She knocks, and a tunnel carries bytes to the hidden wiki",
    "4. She asks for something she may not reach",
    "5. Her session is revoked while a tunnel is live",
    "6. A stranger scans",
    "7. What the audit log recorded",
)
REPOSITORY = Path(__file__).resolve().parents[2]
IMPORTS = "import sys, lab.perimeter, client.cli; print(sys.base_prefix)"
# Where an interpreter is below a directory that is closed to others (a home), the user gets a view of the file system
# in which that directory holds the interpreter and nothing else. The view ends with its last process.
OPEN_VIEW = """
set -e
closed=$1 kept=$2 held=$3; shift 3
mount --bind "$kept" "$held"
mount -t tmpfs -o mode=755 tmpfs "$closed"
mkdir -p "$kept"
mount --bind "$held" "$kept"
exec "$@"
"""


@dataclass(frozen=True)
class Person:
    """Who runs the demo: how commands become theirs, and the one directory they can write to."""

    prefix: Sequence[str]
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GLOAM", "XDG", "PYTEST"))}
        return {**kept, "HOME": str(self.directory), "TMPDIR": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"}

    def left(self) -> list[str]:
        """Processes that were given this person's directory, and the files in it."""
        processes = [str(process) for process in psutil.process_iter() if self._theirs(process)]
        return processes + [
            f"{path}: {path.read_text(errors='replace')[-2_000:] if path.is_file() else ''}"
            for path in self.directory.rglob("*")
        ]

    def _theirs(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("TMPDIR") == str(self.directory)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False


@pytest.fixture
def directory() -> Iterator[Path]:
    """What the person may write to. Not pytest's: everything below that is closed to others."""
    around = Path(tempfile.mkdtemp(prefix="gloam-person-"))
    around.chmod(0o755)
    (around / "own").mkdir(mode=0o700)
    (around / HELD).mkdir()
    yield around / "own"
    shutil.rmtree(around)


def root(directory: Path) -> Person:
    if os.geteuid() != 0:
        pytest.skip("needs root: run the tests as root, or `sudo make test`")
    return Person((), directory)


def somebody(directory: Path) -> Person:
    """A user with no rights at all: ourselves, or nobody where we are root."""
    if os.geteuid() != 0:
        return Person((), directory)
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
    os.chown(directory, NOBODY, NOBODY)
    for prefix in (as_nobody, (*_view(Path(sys.base_prefix), directory.parent / HELD), *as_nobody)):
        person = Person(prefix, directory)
        if _can_run_us(person):
            return person
    pytest.skip(
        f"an unprivileged user cannot run {sys.executable}: put interpreter and repository where others may read"
    )


def _view(interpreter: Path, held: Path) -> tuple[str, ...]:
    closed = next((path for path in reversed(interpreter.parents) if not path.stat().st_mode & 0o001), None)
    if closed is None or closed in REPOSITORY.parents:
        return ()
    return (
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        OPEN_VIEW,
        "sh",
        *map(str, (closed, interpreter, held)),
    )


def _can_run_us(person: Person) -> bool:
    """Whether our very interpreter and packages work for them: another Python of the machine would not count."""
    with contextlib.suppress(FileNotFoundError):
        argv = [*person.prefix, sys.executable, "-c", IMPORTS]
        ran = subprocess.run(argv, env=person.environment, capture_output=True, text=True, check=False, cwd="/")
        return (ran.returncode, ran.stdout.strip()) == (0, sys.base_prefix)
    return False


@contextlib.asynccontextmanager
async def running_demo(person: Person) -> AsyncIterator[Any]:
    """`gloam demo` in a process group of its own, as a shell would start it; nothing of it is left afterwards."""
    process = await asyncio.create_subprocess_exec(
        *person.prefix, script("gloam"), "demo",
        env=person.environment,
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.parametrize(("who", "state"), [(root, "filtered"), (somebody, "closed")])
async def test_the_demo_shows_all_seven_steps_and_leaves_nothing(
    directory: Path, who: Callable[[Path], Person], state: str
) -> None:
    person = who(directory)
    async with running_demo(person) as process:
        out, err = (each.decode() for each in await asyncio.wait_for(process.communicate(), PATIENCE))
    assert (process.returncode, err) == (0, ""), out
    titles = [line.partition("  (")[0] for line in out.splitlines() if line and not line.startswith((" ", "All true"))]
    assert titles == list(TITLES)
    assert out.count(f"{TLS_PORT} is {state}") == 4, out  # controller and gateway, before and after
    assert "All true" in out
    left = person.left()
    assert not left, "\n".join(left)


@pytest.mark.parametrize("title", [TITLES[0], TITLES[3]])
async def test_ctrl_c_in_the_middle_leaves_nothing(directory: Path, title: str) -> None:
    person = somebody(directory)
    async with running_demo(person) as process:
        async with asyncio.timeout(PATIENCE):
            while title not in (line := (await process.stdout.readline()).decode()):
                assert line, (await process.stderr.read()).decode()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        out, err = (each.decode() for each in await asyncio.wait_for(process.communicate(), PATIENCE))
    assert process.returncode == INTERRUPTED, err
    assert "Traceback" not in out + err
    assert TITLES[-1] not in out
    left = person.left()
    assert not left, "\n".join(left)
