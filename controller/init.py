"""Makes a controller: its state directory, master key, certificate authorities, database and settings.

Laws:

1. All or nothing. Everything is made in `STATE/.init` and moved into place, `config.toml` last: without that file there
   is no controller. Whatever ends an init before, an exception, Ctrl-C or SIGTERM, takes back what it made; what
   SIGKILL or a power cut leaves is recognised by `.init` and removed by the next init.
2. A state directory that holds a controller, or anything of somebody else's, is refused.
3. A PostgreSQL database is filled in the same order: it says `initialised` only once `config.toml` is in place, and
   until then the next init may empty it.
"""

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from certs.errors import StoreError
from certs.issue import Issuer
from certs.store import make_state_directory, write_private
from certs.verify import spki_sha256
from console.errors import ExitCode
from console.settings import dump_settings
from controller.audit.events import ChangeMade
from controller.authority import create_authority
from controller.config import CONFIG_FILE, ControllerSettings, database_url
from controller.errors import SettingsError, StorageError
from controller.safekeeping.encrypted import Lock
from controller.safekeeping.root import write_root
from controller.storage import Sealer, Storage
from controller.storage.database import parse_database_url, spoken
from controller.storage.master import FILE, make_master_key

BUILDING: Final = ".init"
_MANIFEST: Final = "manifest"
HEADING: Final = (
    "# The settings of this controller. Each can be overridden by a variable: GLOAM_ and its name in capitals.\n\n"
)


def initialise_from_options(
    state: Path,
    *,
    domain: str,
    listen: str,
    knock: str,
    advertise: str | None,
    database: str | None,
    name: str,
    environ: Mapping[str, str],
    root_out: "RootOut | None" = None,
) -> dict[str, Any]:
    """What ``gloam-controller init`` does; answers what was made, as a document. Raises CommandError."""
    given = {
        "domain": domain,
        "listen": listen,
        "knock": knock,
        "advertise": advertise,
        "database": database,
        "name": name,
    }
    try:
        settings = ControllerSettings.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        option = "".join(f"--{part} " for part in first["loc"]) or "the options "
        raise SettingsError(
            f"{option}is not right: {first['msg'].removeprefix('Value error, ')}",
            "correct it; see --help",
            ExitCode.USAGE,
        ) from None
    try:
        return asyncio.run(_until_stopped(state, settings, environ, root_out))
    except asyncio.CancelledError:
        raise StorageError("init was stopped, and left nothing behind", "run it again") from None


async def _until_stopped(
    state: Path, settings: ControllerSettings, environ: Mapping[str, str], root_out: "RootOut | None"
) -> dict[str, Any]:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await initialise(state, settings, environ, root_out)


@dataclass(frozen=True, slots=True)
class RootOut:
    """Where the root's key goes instead of the database, and how the file is encrypted."""

    path: Path
    lock: Lock


async def initialise(
    state: Path, settings: ControllerSettings, environ: Mapping[str, str], root_out: RootOut | None = None
) -> dict[str, Any]:
    """Makes the controller of ``settings`` in ``state``; on StorageError or SettingsError nothing is left."""
    with place(state) as building:
        url = database_url(settings.database, building)
        try:
            master = Sealer(make_master_key(building, environ))
            root_sha256 = await _fill(url, master, settings, root_out)
            try:
                write_private(building / CONFIG_FILE, (HEADING + dump_settings(settings)).encode())
                move_into_place(building, state)
            except BaseException:
                await empty(url)
                if root_out is not None:
                    root_out.path.unlink(missing_ok=True)
                raise
        except StoreError as error:
            raise StorageError(str(error), error.fix) from error
    with suppress(StorageError):  # `run` says the same again, should the database go away just now
        await (await Storage.open(database_url(settings.database, state), master, controller=settings.name)).close()
    document = _document(state, settings, root_sha256)
    return document if root_out is None else {**document, "root_key": str(root_out.path)}


async def _fill(url: str, sealer: Sealer, settings: ControllerSettings, root_out: RootOut | None) -> bytes:
    """The database with its authorities; answers the root's SPKI hash."""
    async with await Storage.create(url, sealer, controller=settings.name, domain=settings.domain) as storage:
        written = False

        def keep_root(root: Issuer) -> None:
            nonlocal written
            if root_out is not None:
                write_root(root_out.path, root, root_out.lock)
                written = True

        keep = None if root_out is None else keep_root
        try:
            async with storage.change() as change:
                trust = create_authority(change.db, sealer, settings.domain, now=datetime.now(UTC), keep_root=keep)
                change.record(ChangeMade(actor="init", what="controller.initialised", detail=settings.domain))
        except BaseException:
            await empty(url)
            if written and root_out is not None:
                root_out.path.unlink(missing_ok=True)
            raise
    return spki_sha256(trust.root)


async def empty(url: str) -> None:
    """Takes back what was made in the database; if it is out of reach now, the next init does."""
    with suppress(StorageError):
        await Storage.discard(url)


@contextmanager
def place(state: Path) -> Iterator[Path]:
    """A directory to build in; on any exception, nothing of it is left, nor of ``state`` if it was not there before."""
    existed = state.exists()
    try:
        make_state_directory(state)
    except StoreError as error:
        raise StorageError(str(error), error.fix) from error
    lock = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    building = state / BUILDING
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another init is at work in {state}", "wait for it to end") from None
        _require_empty(state, building)
        try:
            building.mkdir(mode=0o700)
            yield building
        except BaseException:
            _clear(state, building)
            if not existed:
                state.rmdir()
            raise
    finally:
        os.close(lock)


def _require_empty(state: Path, building: Path) -> None:
    names = {path.name for path in state.iterdir()}
    if CONFIG_FILE in names:
        raise StorageError(f"there is a controller in {state} already", "use it as it is, or name another --state DIR")
    if BUILDING in names:
        _clear(state, building)  # an init was killed here
    elif names:
        raise StorageError(f"{state} is not empty", "name an empty or a new directory with --state DIR")


def move_into_place(building: Path, state: Path) -> None:
    """The moment a controller comes to be: `config.toml` last, and on the disk in that order."""
    names = [path.name for path in building.iterdir() if path.name != CONFIG_FILE]
    write_private(building / _MANIFEST, "\n".join([*names, CONFIG_FILE]).encode())
    for name in names:
        (building / name).rename(state / name)
    _sync(state)
    (building / CONFIG_FILE).rename(state / CONFIG_FILE)
    _sync(state)
    (building / _MANIFEST).unlink()
    building.rmdir()


def _clear(state: Path, building: Path) -> None:
    """Removes what an init that did not finish made, and nothing else."""
    with suppress(FileNotFoundError):
        for name in (building / _MANIFEST).read_text().splitlines():
            (state / Path(name).name).unlink(missing_ok=True)
    shutil.rmtree(building, ignore_errors=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _document(state: Path, settings: ControllerSettings, root_sha256: bytes) -> dict[str, Any]:
    return {
        "state": str(state),
        "domain": settings.domain,
        "name": settings.name,
        "listen": str(settings.listen),
        "knock": str(settings.knock),
        "advertise": str(settings.told_listen),
        "advertise_knock": str(settings.told_knock),
        "database": spoken(parse_database_url(database_url(settings.database, state))),
        "master_key": str(state / FILE) if (state / FILE).exists() else "from the environment",
        "root_sha256": root_sha256.hex(),
    }
