"""A database of an older version, with rows in it, becomes one of this version and keeps them."""

import sqlite3
from pathlib import Path

from alembic.command import upgrade
from sqlalchemy import create_engine, select

from controller.storage import Sealer, Storage
from controller.storage.models import Device, Session
from controller.storage.upgrade import alembic_config

ID = "11111111111111111111111111111111"
ROWS = f"""
INSERT INTO user_account (id, name, created_at) VALUES ('{ID}', 'alice', 1);
INSERT INTO device (id, user_id, name, platform, sealed_knock_secret, key_sha256, created_at)
    VALUES ('{ID}', '{ID}', 'laptop', 'Linux', x'00', x'00', 1);
INSERT INTO session (id, user_id, device_id, source, started_at, mfa_at, valid_until)
    VALUES ('{ID}', '{ID}', '{ID}', '192.0.2.1', 1, 1, 1);
"""  # noqa: S608 - rows of the test's own


async def test_rows_of_the_first_version_survive_every_migration(tmp_path: Path, sealer: Sealer) -> None:
    path = tmp_path / "gloam.db"
    await (await Storage.create(f"sqlite:///{path}", sealer)).close()
    settings = sqlite3.connect(path).execute("SELECT key, value FROM setting").fetchall()
    path.unlink()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(alembic_config(connection), "0001")
    engine.dispose()
    old = sqlite3.connect(path)
    old.executescript(ROWS)
    old.executemany("INSERT INTO setting (key, value) VALUES (?, ?)", settings)
    old.commit()
    old.close()
    async with await Storage.open(f"sqlite:///{path}", sealer) as storage, storage.read() as db:
        device, session = (await db.scalars(select(Device))).one(), (await db.scalars(select(Session))).one()
    assert (device.name, session.device_id, session.user_id) == ("laptop", device.id, device.user_id)
