"""A new master key: every sealed value is sealed anew, in one transaction, while no controller runs.

Laws:

1. The new key is on the disk before anything depends on it, and the old one until nothing does: whatever stops this at
   whatever moment, the key in `master.key` opens everything, or the one in `master.key.new` does, and the next start
   sees which (storage/opening.py).
2. A key that is handed in from outside is replaced by whoever hands it in: the new one goes to a file they name.
3. What the audit chains are kept with stays the same key, sealed by the new one: records from before still verify.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import InstrumentedAttribute

from certs.secret import Secret
from certs.store import write_private
from console.state import only_one
from controller.audit.events import ChangeMade
from controller.authority.authority import key_context, request_context
from controller.config import ControllerSettings, load_controller_settings
from controller.devices.sealed import device_knock, gateway_knock, invite_secret
from controller.errors import StorageError
from controller.identity.by_totp import context as totp_context
from controller.identity.oidc.providers import secret_context
from controller.identity.oidc.recheck import refresh_context
from controller.safekeeping.encrypted import write_new
from controller.storage import Sealer, Storage
from controller.storage.engine import Change
from controller.storage.master import PENDING, finish_pending, format_master_key, master_key_from_environment
from controller.storage.models import (
    Authority,
    AuthorityRequest,
    Device,
    FederatedSession,
    Gateway,
    Invite,
    NextTotp,
    Provider,
    Totp,
)
from controller.storage.opening import open_storage
from controller.storage.sealing import MASTER_LENGTH


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of sealed values; `context` is what the value of a row is sealed for, by the row's `key`."""

    column: InstrumentedAttribute[Any]
    key: InstrumentedAttribute[UUID]
    context: Callable[[UUID], str]


SEALED: Final = (
    Sealed(Authority.sealed_key, Authority.id, key_context),
    Sealed(AuthorityRequest.sealed_key, AuthorityRequest.id, request_context),
    Sealed(Totp.sealed_secret, Totp.user_id, totp_context),
    Sealed(NextTotp.sealed_secret, NextTotp.user_id, totp_context),
    Sealed(Provider.sealed_secret, Provider.id, secret_context),
    Sealed(FederatedSession.sealed_refresh, FederatedSession.session_id, refresh_context),
    Sealed(Gateway.sealed_knock_secret, Gateway.id, gateway_knock),
    Sealed(Gateway.sealed_next_knock_secret, Gateway.id, gateway_knock),
    Sealed(Device.sealed_knock_secret, Device.id, device_knock),
    Sealed(Device.sealed_next_knock_secret, Device.id, device_knock),
    Sealed(Invite.sealed_secret, Invite.id, invite_secret),
)
"""Every sealed column there is; a test compares it with the tables."""


def rotate_master_key(state: Path, out: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Gives the controller of `state` a new master key; answers where it is. Raises CommandError."""
    settings = load_controller_settings(state, environ)
    handed_in = master_key_from_environment(environ) is not None
    if handed_in and out is None:
        what = "the master key is handed in from outside the state directory"
        raise StorageError(what, "say where the new one goes: --out FILE; then hand in that one")
    if out is not None and not handed_in:
        raise StorageError("the master key is in the state directory, and stays there", "leave out --out")

    async def all_steps() -> int:
        count = 0
        async for step in steps(state, settings, out, environ):
            count = step
        return count

    with only_one(state, "controller"):
        values = asyncio.run(all_steps())
    return {"values": values, "master_key": str(out or state / "master.key")}


async def steps(
    state: Path, settings: ControllerSettings, out: Path | None, environ: Mapping[str, str]
) -> AsyncIterator[int]:
    """The durable steps, one at a time, so that a test can stop after each; says how many values are sealed anew."""
    async with await open_storage(state, settings, environ) as storage:
        new = Secret.fresh(MASTER_LENGTH)
        text = format_master_key(new).encode() + b"\n"
        if out is None:
            write_private(state / PENDING, text)
        else:
            write_new(out, text)
        yield 0
        async with storage.change() as change:
            count = await _reseal(change, storage, Sealer(new))
            change.record(ChangeMade(actor="master-key", what="master_key.rotated", detail=f"{count} values"))
    yield count
    if out is None:
        finish_pending(state)
    yield count


async def _reseal(change: Change, storage: Storage, new: Sealer) -> int:
    """Every sealed value under the new key; answers how many."""
    count = 0
    for sealed in SEALED:
        query = select(sealed.key, sealed.column).where(sealed.column.is_not(None))
        for key, value in (await change.db.execute(query)).all():
            context = sealed.context(key)
            again = new.seal(storage.sealer.open(value, context), context)
            where = update(sealed.column.class_).where(sealed.key == key)
            await change.db.execute(where.values({sealed.column.key: again}))
            count += 1
    await storage.replace_master(change, new)
    return count
