"""The master key is replaced, and whatever stops that, one key opens everything."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from certs.secret import Secret
from console.errors import CommandError
from console.state import only_one
from controller.audit.verification import Intact, verify_database
from controller.authority import Authority
from controller.config import ControllerSettings, load_controller_settings
from controller.errors import StorageError
from controller.identity.by_totp import context as totp_context
from controller.init import initialise
from controller.safekeeping.resealing import SEALED, rotate_master_key, steps
from controller.storage.master import FILE, PENDING, format_master_key
from controller.storage.models import Base, Invite, Totp, User
from controller.storage.opening import open_storage

NOW = datetime.now(UTC)
SECRET = Secret(b"s" * 20)


async def made(state: Path, environ: dict[str, str]) -> ControllerSettings:
    """A controller's state with secrets of several kinds in it."""
    settings = ControllerSettings.model_validate(
        {"domain": "example.test", "listen": "127.0.0.1:1", "knock": "127.0.0.1:1"}
    )
    await initialise(state, settings, environ)
    settings = load_controller_settings(state, environ)
    async with await open_storage(state, settings, environ) as storage, storage.change() as change:
        user = User(id=uuid4(), name="alice", created_at=NOW)
        change.db.add(user)
        await change.db.flush()
        sealed = storage.sealer.seal(SECRET, totp_context(user.id))
        change.db.add(Totp(user_id=user.id, sealed_secret=sealed, created_at=NOW))
        invite, context = uuid4(), next(each.context for each in SEALED if each.column.class_ is Invite)
        change.db.add(
            Invite(
                id=invite, purpose="device", user_id=user.id, created_at=NOW, expires_at=NOW + timedelta(days=1),
                sealed_secret=storage.sealer.seal(SECRET, context(invite)),
            )
        )  # fmt: skip
    return settings


async def everything_opens(state: Path, settings: ControllerSettings, environ: dict[str, str]) -> None:
    async with await open_storage(state, settings, environ) as storage:
        async with storage.read() as db:
            await Authority.load(db, storage.sealer)
            opened = 0
            for sealed in SEALED:
                query = select(sealed.key, sealed.column).where(sealed.column.is_not(None))
                for key, value in (await db.execute(query)).all():
                    storage.sealer.open(value, sealed.context(key))
                    opened += 1
        assert opened == 6  # the root, three intermediates, an authenticator, an invite
        assert isinstance(await verify_database(storage), Intact)


def test_every_sealed_column_is_known() -> None:
    there = {(table.name, column.name) for table in Base.metadata.sorted_tables for column in table.columns}
    known = {(each.column.class_.__tablename__, each.column.key) for each in SEALED}
    assert {pair for pair in there if pair[1].startswith("sealed_")} == known


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
async def test_whatever_stops_it_one_key_opens_everything(tmp_path: Path, stopped_after: int) -> None:
    state = tmp_path / "controller"
    settings = await made(state, {})
    before = (state / FILE).read_bytes()
    done = 0
    async with aclosing(steps(state, settings, None, {})) as running:
        async for _ in running:
            done += 1
            if done == stopped_after:
                break
    await everything_opens(state, settings, {})
    assert ((state / FILE).read_bytes() == before) == (stopped_after == 1)
    assert (state / PENDING).exists() == (stopped_after == 1)
    async for _ in steps(state, settings, None, {}):  # and again, to its end
        pass
    await everything_opens(state, settings, {})
    assert not (state / PENDING).exists()
    assert (state / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_key_that_is_handed_in_is_replaced_by_who_hands_it_in(tmp_path: Path) -> None:
    state, out = tmp_path / "controller", tmp_path / "new.key"
    environ = {"GLOAM_MASTER_KEY": format_master_key(Secret.fresh(32))}
    settings = await made(state, environ)
    async for _ in steps(state, settings, out, environ):
        pass
    assert not (state / FILE).exists()
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError, match="not the one this database was made with"):
        await open_storage(state, settings, environ)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "gloam-master-key").write_bytes(out.read_bytes())
    await everything_opens(state, settings, {"CREDENTIALS_DIRECTORY": str(credentials)})


async def test_what_cannot_be_rotated_is_refused_before_anything_changes(tmp_path: Path) -> None:
    state = tmp_path / "controller"
    settings = await made(state, {})
    before = (state / FILE).read_bytes()
    with only_one(state, "controller"), pytest.raises(CommandError, match="runs on"):
        rotate_master_key(state, None, {})
    with pytest.raises(StorageError, match="leave out --out"):
        rotate_master_key(state, tmp_path / "new.key", {})
    key = {"GLOAM_MASTER_KEY": before.decode().strip()}
    with pytest.raises(StorageError, match="--out FILE"):
        rotate_master_key(state, None, key)
    taken = tmp_path / "taken"
    taken.write_text("somebody's")
    with pytest.raises(StorageError, match="exists already"):
        async for _ in steps(state, settings, taken, key):
            pass
    assert taken.read_text() == "somebody's"
    await everything_opens(state, settings, {})
    assert (state / FILE).read_bytes() == before
