"""The controller's machine is lost; a backup brings it back, and nobody has to enrol again."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from sqlalchemy import make_url

from lab.perimeter import Client, Perimeter
from lab.processes import LabError, finish, script
from lab.visitor import fetch
from tests.postgresql import new_database

PATIENCE = 60
PASSPHRASE = "seven words nobody would ever guess"


async def run(perimeter: Perimeter, *arguments: str, passphrase: str = PASSPHRASE, **env: str) -> Any:
    argv = [script("gloam-controller"), *arguments, "--json", "--state", str(perimeter.controller_state)]
    return await finish(argv, text=f"{passphrase}\n", env=env)


async def link_up(stage: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not (await stage.perimeter.gateway_status("edge"))["link"]["up"]:
            pass


async def log_in(client: Client) -> None:
    """With the first code that is newer than the restore: no older one counts any more."""
    for _ in range(3):
        with contextlib.suppress(LabError):
            await client.login(client.name)
            return
    raise LabError("no code counts")


@pytest.fixture
async def elsewhere(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, ...]]:
    """What names an empty database to restore into; SQLite's is a file, which is gone with the machine."""
    server = request.config.getoption("--database")
    if server is None:
        yield ()
        return
    async with new_database(make_url(server)) as url:
        yield "--database", url


async def test_devices_and_gateways_come_back_to_a_restored_controller(
    stage: Any, tmp_path: Path, elsewhere: tuple[str, ...]
) -> None:
    perimeter, file = stage.perimeter, tmp_path / "gloam.age"
    alice = await stage.person()
    unused = await perimeter.admin_json("invite", "alice")
    made = await run(perimeter, "backup", str(file), "--passphrase-stdin")  # while it runs
    assert made.code == 0, made.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await run(perimeter, "backup", str(file), "--passphrase-stdin")).code == 1  # nothing is overwritten
    refused = await run(perimeter, "restore", str(file), "--passphrase-stdin")
    assert refused.code == 1
    assert "a controller in" in refused.err

    await perimeter.processes["controller"].kill()
    shutil.rmtree(perimeter.controller_state)
    broken = tmp_path / "broken.age"
    whole = file.read_bytes()
    for data, passphrase in (
        (whole, "another passphrase altogether"),
        (whole[: len(whole) // 2], PASSPHRASE),
        (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], PASSPHRASE),
        (b"nothing of the kind", PASSPHRASE),
    ):
        broken.write_bytes(data)
        refused = await run(perimeter, "restore", str(broken), "--passphrase-stdin", passphrase=passphrase)
        assert refused.code == 1
        assert len(refused.err.splitlines()) == 1, refused.err
        assert not perimeter.controller_state.exists()

    if elsewhere:
        refused = await run(perimeter, "restore", str(file), "--passphrase-stdin")
        assert "already holds a perimeter" in refused.err
        assert not perimeter.controller_state.exists()
    restored = await run(perimeter, "restore", str(file), "--passphrase-stdin", *elsewhere)
    assert restored.code == 0, restored.err
    assert (restored.json["sessions_ended"], restored.json["invites_closed"]) == (1, 1)
    await perimeter.start_controller()
    await link_up(stage)
    await log_in(alice)
    forward, host, port = await alice.forward("wiki")
    assert (await fetch(host, port))[0] == 200
    await forward.stop()
    spent = await perimeter.add_client("alice", name="late", enrol=False)
    assert (await spent.gloam("enrol", unused["invite"])).code != 0
    assert (await perimeter.admin_json("audit", "verify"))["intact"]
    (event,) = await stage.events("controller.restored")
    assert event["sessions_ended"] == 1


async def test_a_backup_for_a_recipient_opens_with_their_identity_alone(tmp_path: Path) -> None:
    async with Perimeter(admin_here=True) as perimeter:
        assert (await perimeter.init_controller()).code == 0
        owner, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        file = tmp_path / "gloam.age"
        made = await run(perimeter, "backup", str(file), "--recipient", str(owner.to_public()))
        assert made.code == 0, made.err
        shutil.rmtree(perimeter.controller_state)
        for identity, code in ((stranger, 1), (owner, 0)):
            key = tmp_path / "key.txt"
            key.write_text(f"# made by a test\n{identity}\n")
            restored = await run(perimeter, "restore", str(file), "--identity", str(key))
            assert restored.code == code, restored.err
        await perimeter.start_controller()
        assert (await perimeter.admin_json("audit", "verify"))["intact"]


async def test_a_backup_of_sqlite_becomes_a_controller_on_postgresql(postgresql_database: str, tmp_path: Path) -> None:
    async with Perimeter(admin_here=True) as perimeter:
        assert (await perimeter.init_controller()).code == 0
        file = tmp_path / "gloam.age"
        assert (await run(perimeter, "backup", str(file), "--passphrase-stdin")).code == 0
        shutil.rmtree(perimeter.controller_state)
        url = postgresql_database.replace("+asyncpg", "")
        restored = await run(perimeter, "restore", str(file), "--passphrase-stdin", "--database", url)
        assert restored.code == 0, restored.err
        assert not (perimeter.controller_state / "gloam.db").exists()
        await perimeter.start_controller()
        assert (await perimeter.admin_json("audit", "verify"))["intact"]


def test_what_backup_writes_is_read_by_age_itself(tool: Any, tmp_path: Path) -> None:
    """The format is age's, not ours: Debian's age opens it."""
    age = tool("age")
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    from controller.safekeeping.encrypted import Lock

    (tmp_path / "file.age").write_bytes(Lock(recipients=(str(identity.to_public()),)).encrypt(b"hello"))
    command = [age, "--decrypt", "-i", str(tmp_path / "key.txt"), str(tmp_path / "file.age")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"hello"


@pytest.mark.parametrize("recipient", ["age1", "nobody", "AGE-SECRET-KEY-1"])
async def test_a_recipient_that_is_none_is_refused(tmp_path: Path, recipient: str) -> None:
    refused = await finish(
        [script("gloam-controller"), "backup", str(tmp_path / "x"), "--recipient", recipient, "--state", str(tmp_path)]
    )
    assert refused.code == 1
    assert "a recipient is not one" in refused.err
