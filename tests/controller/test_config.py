"""The settings are checked as a whole, and what is wrong is said in one line."""

from datetime import timedelta
from pathlib import Path

import pytest

from console.errors import CommandError
from controller.config import ControllerSettings, database_url, load_controller_settings
from controller.errors import SettingsError

LEAST = 'domain = "example.test"\nlisten = "127.0.0.1:8443"\nknock = "127.0.0.1:62201"\n'


def load(tmp_path: Path, text: str, **environ: str) -> ControllerSettings:
    (tmp_path / "config.toml").write_text(text)
    return load_controller_settings(tmp_path, environ)


def test_three_keys_are_enough(tmp_path: Path) -> None:
    found = load(tmp_path, LEAST)
    assert found.session_lifetime == timedelta(minutes=10)
    assert found.told_listen == found.listen
    assert found.told_knock == found.knock
    assert database_url(found.database, tmp_path) == f"sqlite+aiosqlite:///{tmp_path}/gloam.db"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('sesion_lifetime = "1m"', "did you mean session_lifetime"),
        ('session_lifetime = "0s"', "one second or more"),
        ('outage_grace = "soon"', "outage_grace"),
        ('name = "Main"', "controller name"),
        ('database = "mysql://h/d"', "mysql is not a kind of database"),
        ('database = "sqlite:///../other.db"', "outside the state directory"),
        ('advertise = "sdp.example.test:0"', "set advertise"),
        ('cloak = "none"', "cloak"),
        ('advertise = "[fe80::1%eth0]:8443"', "names an interface"),
        ('advertise = "::1:8443"', "brackets"),
        ('shared_networks = ["192.0.2.7/28"]', "write 192.0.2.0/28"),
        ('shared_networks = ["10.0.0.0/8"]', "share at most 32"),
        ('shared_networks = ["192.0.2.0/28", "192.0.2.0/30"]', "overlap"),
        ('shared_networks = "192.0.2.0/28"', "shared_networks"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        load(tmp_path, f"{LEAST}{line}\n")
    assert "\n" not in str(caught.value)


def test_the_environment_wins_and_is_checked_too(tmp_path: Path) -> None:
    assert load(tmp_path, LEAST, GLOAM_REEVALUATE_INTERVAL="2s").reevaluate_interval == timedelta(seconds=2)
    with pytest.raises(CommandError, match="GLOAM_CLOAK"):
        load(tmp_path, LEAST, GLOAM_CLOAK="none")


def test_no_settings_no_controller(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run gloam-controller init"):
        load_controller_settings(tmp_path, {})


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_a_postgresql_url_keeps_its_password_and_gets_its_driver(tmp_path: Path, scheme: str) -> None:
    assert database_url(f"{scheme}://u:p%40x@h:5432/d", tmp_path) == "postgresql+asyncpg://u:p%40x@h:5432/d"


@pytest.mark.parametrize("url", ["postgresql://gloam:hush@db.test/gloam", "postgresql://db.test/gloam?password=hush"])
def test_a_password_in_a_file_that_others_may_read_is_refused(tmp_path: Path, url: str) -> None:
    text = f'{LEAST}database = "{url}"\n'
    tmp_path.chmod(0o700)
    (tmp_path / "config.toml").touch(mode=0o640)
    with pytest.raises(SettingsError, match="may be read by others") as refused:
        load(tmp_path, text)
    assert refused.value.fix == f"run chmod 600 {tmp_path / 'config.toml'}"
    assert "hush" not in str(refused.value)
    assert load(tmp_path, LEAST).database
    (tmp_path / "config.toml").chmod(0o600)
    assert load(tmp_path, text).database == url
