"""A controller as one encrypted file: its database, master key and settings; while it runs or not."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from controller.audit.events import ChangeMade
from controller.config import CONFIG_FILE, ControllerSettings, load_controller_settings
from controller.errors import StorageError
from controller.safekeeping.dump import FORMAT, VERSION, Header, dump
from controller.safekeeping.encrypted import Lock, write_new
from controller.storage import Storage
from controller.storage.master import format_master_key
from controller.storage.opening import open_storage
from controller.storage.schema import revision_of


def back_up(state: Path, file: Path, lock: Lock, environ: Mapping[str, str]) -> dict[str, Any]:
    """Writes the controller of `state` to a new `file`; answers what is in it. Raises CommandError."""
    if file.exists():
        raise StorageError(f"{file} exists already", "name a file that does not: nothing is overwritten")
    made = asyncio.run(_dump(state, file, environ))
    write_new(file, lock.encrypt(made.data))
    header = made.header
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "made_at": header.made_at,
        "domain": header.domain,
        "controller": header.controller,
        "schema": header.schema_,
    }


@dataclass(frozen=True, slots=True)
class _Made:
    header: Header
    data: bytes


async def _dump(state: Path, file: Path, environ: Mapping[str, str]) -> _Made:
    settings = load_controller_settings(state, environ)
    async with await open_storage(state, settings, environ) as storage:
        async with storage.change() as change:  # whoever holds a copy is the CA: a copy is never made silently
            change.record(ChangeMade(actor=f"backup/{os.geteuid()}", what="controller.backed_up", detail=str(file)))
        async with storage.read() as db:
            return await _made(db, storage, settings, state)


async def _made(db: AsyncSession, storage: Storage, settings: ControllerSettings, state: Path) -> _Made:
    header = Header(
        format=FORMAT,
        version=VERSION,
        gloam=version("gloam"),
        schema=await (await db.connection()).run_sync(revision_of) or "",
        made_at=datetime.now(UTC),
        controller=settings.name,
        domain=storage.domain,
        config=(state / CONFIG_FILE).read_text(encoding="utf-8"),
        master_key=format_master_key(storage.sealer.master),
    )
    return _Made(header, await dump(db, header))
