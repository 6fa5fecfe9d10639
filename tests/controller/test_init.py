# ruff: noqa: ASYNC221, PLW1510, FBT001, PLR0917 - processes here are short, and their exit codes are looked at
"""`init` makes a whole controller or leaves nothing, whatever interrupts it."""

import asyncio
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from console.errors import CommandError, ExitCode
from controller import init
from controller.audit.offline import verify_state
from controller.authority import Authority
from controller.config import ControllerSettings, database_url, load_controller_settings
from controller.init import initialise, initialise_from_options
from controller.storage import Sealer, Storage, StorageError
from controller.storage.master import load_master_key

ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, Any] = {
    "domain": "example.test", "listen": "127.0.0.1:8443", "knock": "127.0.0.1:62201", "advertise": None,
    "database": None, "name": "main", "environ": {},
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "sqlite:///gloam.db"
    url = request.getfixturevalue("postgresql_database")
    assert isinstance(url, str)
    return url.replace("gloam@", "gloam:hunter2@")


def settings(database: str) -> ControllerSettings:
    return ControllerSettings.model_validate(
        {"domain": "example.test", "listen": "127.0.0.1:8443", "knock": "127.0.0.1:62201", "database": database}
    )


async def open_made(state: Path) -> Storage:
    found = load_controller_settings(state, {})
    return await Storage.open(
        database_url(found.database, state), Sealer(load_master_key(state, {})), controller=found.name
    )


async def test_what_init_made_opens_and_is_whole(tmp_path: Path, database: str) -> None:
    state = tmp_path / "deep" / "state"
    document = await initialise(state, settings(database), {})
    async with await open_made(state) as storage:
        assert storage.domain == "example.test"
        async with storage.read() as db:
            authority = await Authority.load(db, storage.sealer)
    assert document["root_sha256"] == authority.root_sha256.hex()
    assert "hunter2" not in json.dumps(document)
    assert state.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())
    expected = {"config.toml", "master.key"} | ({"gloam.db"} if database.startswith("sqlite") else set())
    assert {path.name for path in state.iterdir()} == expected


async def test_a_second_init_is_refused_and_changes_nothing(tmp_path: Path, database: str) -> None:
    await initialise(tmp_path / "state", settings(database), {})
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    with pytest.raises(StorageError, match=r"there is a controller in .* already; .*--state"):
        await initialise(tmp_path / "state", settings(database), {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before
    if not database.startswith("sqlite"):
        with pytest.raises(StorageError, match="already holds a perimeter"):
            await initialise(tmp_path / "other", settings(database), {})
        assert not (tmp_path / "other").exists()
        await (await open_made(tmp_path / "state")).close()


@pytest.mark.parametrize("broken", ["make_master_key", "create_authority", "dump_settings", "move_into_place"])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("existed", [False, True], ids=["new", "existing"])
async def test_a_failure_anywhere_leaves_nothing(
    tmp_path: Path,
    database: str,
    broken: str,
    error: BaseException,
    existed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    state = tmp_path / "state"
    if existed:
        state.mkdir(mode=0o700)
    with monkeypatch.context() as patch:
        patch.setattr(init, broken, fail)
        with pytest.raises(type(error)):
            await initialise(state, settings(database), {})
    assert state.exists() is existed
    assert not existed or list(state.iterdir()) == []
    await initialise(state, settings(database), {})
    await (await open_made(state)).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from controller import init

step, state, database, how = sys.argv[1:]
original = getattr(init, step)

def stop(*arguments, **named):
    if step == "_sync":
        original(*arguments, **named)
    os.kill(os.getpid(), getattr(signal, how))
    return original(*arguments, **named)

setattr(init, step, stop)
init.initialise_from_options(
    Path(state), domain="example.test", listen="127.0.0.1:8443", knock="127.0.0.1:62201", advertise=None,
    database=database, name="main", environ={},
)
"""


@pytest.mark.parametrize("step", ["create_authority", "dump_settings", "move_into_place", "_sync"])
async def test_an_init_killed_outright_does_not_stand_in_the_way(tmp_path: Path, database: str, step: str) -> None:
    state = tmp_path / "state"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, step, state, database, "SIGKILL"], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (state / "config.toml").exists()
    with pytest.raises(CommandError, match="there is no controller in"):
        load_controller_settings(state, {})
    await initialise(state, settings(database), {})
    await (await open_made(state)).close()
    assert not (state / ".init").exists()


def test_sigterm_takes_everything_back(tmp_path: Path) -> None:
    stopped = subprocess.run(
        [sys.executable, "-c", KILLED, "create_authority", tmp_path / "state", "sqlite:///gloam.db", "SIGTERM"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert stopped.returncode == 1
    assert "init was stopped, and left nothing behind; run it again" in stopped.stderr
    assert list(tmp_path.iterdir()) == []


async def test_two_inits_at_once_make_one_controller(tmp_path: Path) -> None:
    results = await asyncio.gather(
        *(initialise(tmp_path / "state", settings("sqlite:///gloam.db"), {}) for _ in range(2)), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [StorageError]
    assert "another init is at work" in str(refused[0])
    await (await open_made(tmp_path / "state")).close()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="is not empty; name an empty"):
        initialise_from_options(tmp_path / "state", **OPTIONS)
    assert (tmp_path / "state" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StorageError, match="chmod 700"):
        initialise_from_options(tmp_path / "open", **OPTIONS)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("domain", "Example.Test", "--domain"),
        ("name", "a b", "--name"),
        ("listen", "8443", "--listen"),
        ("knock", "127.0.0.1:70000", "--knock"),
        ("listen", "127.0.0.1:0", "port 0"),
        ("database", "mysql://x", "--database"),
        ("database", "sqlite:////elsewhere/gloam.db", "--database"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_made(tmp_path: Path, option: str, value: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as refused:
        initialise_from_options(tmp_path / "state", **{**OPTIONS, option: value})
    assert refused.value.code is ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_the_settings_say_what_each_key_is_for(tmp_path: Path) -> None:
    initialise_from_options(tmp_path / "state", **{**OPTIONS, "advertise": "sdp.example.test:443"})
    written = (tmp_path / "state" / "config.toml").read_text()
    keys = tomllib.loads(written)
    assert keys["session_lifetime"] == "10m"
    lines = written.splitlines()
    for name in ControllerSettings.model_fields:
        place = next(index for index, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{name} ="))
        assert lines[place - 1].startswith("# ")
    found = load_controller_settings(tmp_path / "state", {"GLOAM_SESSION_LIFETIME": "90s"})
    assert str(found.told_listen) == "sdp.example.test:443"
    assert found.session_lifetime.total_seconds() == 90


def test_a_master_key_from_the_environment_is_not_written(tmp_path: Path) -> None:
    environ = {"GLOAM_MASTER_KEY": "A" * 43}
    document = initialise_from_options(tmp_path / "state", **{**OPTIONS, "environ": environ})
    assert document["master_key"] == "from the environment"
    assert not (tmp_path / "state" / "master.key").exists()
    assert verify_state(tmp_path / "state", environ)["intact"] is True
    with pytest.raises(StorageError, match=r"master key .* is missing"):
        verify_state(tmp_path / "state", {})
    with pytest.raises(StorageError, match="not the one this database was made with"):
        verify_state(tmp_path / "state", {"GLOAM_MASTER_KEY": "B" * 42 + "A"})


def test_verify_works_offline_and_names_what_was_touched(tmp_path: Path) -> None:
    import sqlite3

    initialise_from_options(tmp_path / "state", **OPTIONS)
    document = verify_state(tmp_path / "state", {})
    assert (document["intact"], document["chains"], document["records"]) == (True, 1, 2)
    json.dumps(document)
    connection = sqlite3.connect(tmp_path / "state" / "gloam.db")
    connection.execute("UPDATE audit_record SET event = replace(event, 'init', 'eve') WHERE seq = 2")
    connection.commit()
    connection.close()
    document = verify_state(tmp_path / "state", {})
    assert document["intact"] is False
    assert "record 2 of chain 1" in document["what"]
