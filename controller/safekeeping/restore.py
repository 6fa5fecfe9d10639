"""A controller out of a backup, on an empty machine.

Laws:

1. All or nothing, as `init`: the whole file is read, opened and checked before anything is made, and `config.toml`
   comes last. A state directory or database with something in it is refused.
2. What was open when the backup was made is closed: sessions end, invites count no more, and no code of an
   authenticator that may have been used since counts again. What was revoked since is not known here: whoever restores
   is told so.
3. The restore is in the audit log, in a chain of its own that witnesses those before it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import case, delete, func, select, update

from certs.errors import StoreError
from certs.secret import Secret
from certs.store import write_private
from console.settings import dump_settings, load_settings
from controller.audit.events import ControllerRestored
from controller.config import CONFIG_FILE, ControllerSettings, database_url
from controller.errors import StorageError
from controller.identity.totp import step_of
from controller.init import HEADING, empty, move_into_place, place
from controller.safekeeping.dump import Contents, load, read
from controller.safekeeping.encrypted import Key, read_file
from controller.storage import Sealer, Storage
from controller.storage.engine import Change
from controller.storage.master import FILE, master_key_from_environment, parse_master_key
from controller.storage.models import FederatedSession, Invite, NextTotp, Session, Totp

REASON = "the controller was restored from a backup"


@dataclass(frozen=True, slots=True)
class Closed:
    """What a restore closed."""

    sessions: int
    invites: int


def restore(state: Path, file: Path, key: Key, environ: Mapping[str, str], *, database: str | None) -> dict[str, Any]:
    """Makes the controller of a backup in `state`; answers what was made and closed. Raises CommandError."""
    contents = read(key.decrypt(read_file(file), str(file)), str(file))
    try:
        return asyncio.run(_restore(state, contents, environ, database))
    except StoreError as error:
        raise StorageError(str(error), error.fix) from error


async def _restore(state: Path, contents: Contents, environ: Mapping[str, str], database: str | None) -> dict[str, Any]:
    header = contents.header
    master = parse_master_key(header.master_key.encode(), "the backup")
    given = master_key_from_environment(environ)
    if given is not None and given != master:
        what = "the master key that is handed in is not the one of the backup"
        raise StorageError(what, "hand in that one, or none: the backup has it")
    with place(state) as building:
        config = building / CONFIG_FILE
        write_private(config, header.config.encode())
        settings = load_settings(ControllerSettings, config, environ)
        if database is not None:
            settings = ControllerSettings.model_validate({**settings.model_dump(), "database": database})
            write_private(config, (HEADING + dump_settings(settings)).encode())
        url = database_url(settings.database, building)
        closed = await _fill(url, master, contents, settings)
        try:
            if given is None:
                write_private(building / FILE, header.master_key.encode() + b"\n")
            move_into_place(building, state)
        except BaseException:
            await empty(url)
            raise
    await (await Storage.open(database_url(settings.database, state), Sealer(master), controller=settings.name)).close()
    return {
        "state": str(state),
        "domain": header.domain,
        "controller": header.controller,
        "backup_made_at": header.made_at,
        "sessions_ended": closed.sessions,
        "invites_closed": closed.invites,
    }


async def _fill(url: str, master: Secret, contents: Contents, settings: ControllerSettings) -> Closed:
    """The database of the backup, with what was open closed (law 2)."""
    header = contents.header
    storage = await Storage.refill(
        url, Sealer(master), lambda connection: load(connection, contents), controller=settings.name
    )
    try:
        async with storage, storage.change() as change:
            closed = await _close(change, datetime.now(UTC))
            change.record(
                ControllerRestored(
                    controller=settings.name,
                    backup_made_at=header.made_at,
                    backup_by=header.gloam,
                    sessions_ended=closed.sessions,
                    invites_closed=closed.invites,
                )
            )
    except BaseException:
        await empty(url)
        raise
    return closed


async def _close(change: Change, now: datetime) -> Closed:
    open_sessions = Session.ended_at.is_(None)
    open_invites = (Invite.used_at.is_(None), Invite.expires_at > now)
    sessions = await change.db.scalar(select(func.count()).select_from(Session).where(open_sessions))
    invites = await change.db.scalar(select(func.count()).select_from(Invite).where(*open_invites))
    await change.db.execute(delete(FederatedSession))
    await change.db.execute(delete(NextTotp))
    await change.db.execute(
        update(Session).where(open_sessions).values(ended_at=now, end_code="restored", end_reason=REASON)
    )
    await change.db.execute(update(Invite).where(*open_invites).values(used_at=now))
    last = step_of(now)  # what was used since is of this step at the latest: a restore takes longer than clocks differ
    spent = case((Totp.last_step > last, Totp.last_step), else_=last)
    await change.db.execute(update(Totp).values(last_step=spent))
    return Closed(sessions or 0, invites or 0)
