"""Keys sealed with the system's keyring: a real Secret Service (gnome-keyring) on a D-Bus session of its own."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import keyring
import keyring.backends.SecretService
import keyring.core
import pytest
import secretstorage

from certs.sealing import MARK
from certs.secret import Secret
from client import system_keyring
from client.enrol import enrol_device
from client.state import ClientState
from client.system_keyring import SERVICE, KeyringError
from console.errors import CommandError
from tests.client.commands import Gloam, Make
from tests.client.perimeter import Perimeter
from wire.invite import encode_invite
from wire.messages import Renew

PROGRAMS = ("gnome-keyring-daemon", "dbus-run-session", "dbus-daemon")
STARTED = """
printf 'a password\\n' | gnome-keyring-daemon --daemonize --unlock --components=secrets >/dev/null
echo "$DBUS_SESSION_BUS_ADDRESS"
exec cat
"""
"""The session, and the daemon with it, ends with our end of the pipe that `cat` reads."""


class Keyring:
    """A session with an unlocked collection that is thrown away."""

    def __init__(self, directory: Path) -> None:
        places = ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
        self.environ = dict.fromkeys(places, str(directory))
        self._session = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-euc", STARTED],
            env={**os.environ, **self.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._session.stdout is not None
        self.environ["DBUS_SESSION_BUS_ADDRESS"] = self._session.stdout.readline().decode().strip()
        assert self.environ["DBUS_SESSION_BUS_ADDRESS"], "no session bus"

    def close(self) -> None:
        self._session.communicate(timeout=30)

    def lock(self) -> None:
        with closing(secretstorage.dbus_init()) as bus:
            secretstorage.get_default_collection(bus).lock()

    def entries(self) -> set[str]:
        with closing(secretstorage.dbus_init()) as bus:
            found = secretstorage.search_items(bus, {"service": SERVICE})
            return {each.get_attributes()["username"] for each in found}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    if not all(map(shutil.which, PROGRAMS)):
        pytest.skip("needs a Secret Service: apt-get install gnome-keyring dbus dbus-daemon")
    (tmp_path / "home").mkdir(mode=0o700)
    made = Keyring(tmp_path / "home")
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)  # this process asks the keyring, too
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.SecretService.Keyring())
    yield made
    keyring.set_keyring(before)
    made.close()


@pytest.fixture
async def sealed(service: Keyring, perimeter: Perimeter, make: Make) -> Gloam:
    """A device enrolled with --keyring."""
    gloam = make("state")
    gloam.set(**service.environ)
    done = await gloam("enrol", encode_invite(perimeter.controller.invite()), "--keyring", "--json")
    assert done.code == 0, done.err
    assert done.json["keyring"]
    return gloam


def entry_in(gloam: Gloam) -> UUID:
    entry = gloam.state.keyring_entry
    assert entry is not None
    return entry


def assert_nothing_in_the_clear(gloam: Gloam, *secrets: bytes) -> None:
    files = [path for path in gloam.directory.iterdir() if path.is_file()]
    assert {"device.key", "knock.secret", "profile.json"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert b"PRIVATE KEY" not in data, path
        assert not any(secret in data for secret in secrets), path
        assert data.startswith(MARK) == (path.suffix in {".key", ".secret"}), path


async def test_keys_open_with_the_keyring_alone_through_logins_and_renewals(
    service: Keyring, perimeter: Perimeter, sealed: Gloam
) -> None:
    assert service.entries() == {str(entry_in(sealed))}
    key = keyring.get_password(SERVICE, str(entry_in(sealed)))
    assert key
    perimeter.controller.answers.lifetime = timedelta(seconds=3)
    assert (await sealed.log_in()).code == 0
    await perimeter.controller.wait_for(Renew, 2)  # the first was answered: the session has its second key
    connected = await sealed("connect", "wiki", stdin=b"hello")
    assert (connected.code, connected.out) == (0, "HELLO<END>"), connected.err
    status = (await sealed("status", "--json")).json
    assert (status["logged_in"], status["keyring"]) == (True, True)
    assert "Keys:       sealed" in (await sealed("status")).out
    assert (sealed.directory / "session.key").exists()
    secrets = (perimeter.controller.knock_secret.reveal(), key.encode())
    assert_nothing_in_the_clear(sealed, *secrets)
    agent = await sealed.agent()
    assert key not in " ".join([*agent.cmdline(), *agent.environ().values()])

    knock = await sealed("knock", "wiki")
    assert knock.code == 1
    assert knock.err.endswith("curl needs the session's in a file; use gloam forward wiki\n")

    # The device's own renewal, as the agent writes it; the next process reads it back.
    perimeter.controller.answers.lifetime = timedelta(minutes=10)
    assert (await sealed("logout")).code == 0
    renewed = perimeter.authority.identity(perimeter.controller.device)
    sealed.state.save_renewal(renewed, perimeter.authority.trust, perimeter.controller.knock_secret)
    assert sealed.state.device() == renewed
    assert_nothing_in_the_clear(sealed, *secrets)
    assert (await sealed.log_in()).code == 0


async def test_without_its_keyring_a_command_says_what_helps(
    service: Keyring, perimeter: Perimeter, sealed: Gloam
) -> None:
    service.lock()
    locked = await sealed.log_in()
    assert locked.code == 1
    assert json.loads(locked.err)["error"] == "the system's keyring is locked"
    assert json.loads(locked.err)["fix"] == "unlock it and try again"
    assert (await sealed("status")).code == 0  # needs no key

    service.close()
    gone = await sealed("login", "ada", "--password-stdin", "--otp", "123456", stdin=b"correct horse\n")
    assert gone.code == 1
    assert gone.err == (
        "gloam: there is no system keyring that can be used (found: keyring.backends.fail.Keyring); "
        "run one: gnome-keyring, KWallet or another Secret Service, in a D-Bus session; "
        "or ask for a new invite and run gloam enrol --replace -\n"
    )


async def test_a_device_whose_entry_is_gone_is_enrolled_anew(
    service: Keyring, perimeter: Perimeter, sealed: Gloam
) -> None:
    assert (await sealed.log_in()).code == 0
    agent = await sealed.agent()
    agent.kill()
    agent.wait()
    former = entry_in(sealed)
    keyring.delete_password(SERVICE, str(former))
    lost = await sealed("connect", "wiki")
    assert lost.code == 1
    assert lost.err == (
        f"gloam: the system's keyring has no entry {former} of gloam any more; "
        "ask for a new invite and run gloam enrol --replace -\n"
    )
    enrol = ("enrol", encode_invite(perimeter.controller.invite()), "--replace")
    done = await sealed(*enrol, "--keyring")
    assert done.code == 0, done.err
    assert service.entries() == {str(entry_in(sealed))} != {str(former)}
    assert sealed.state.device().name == perimeter.controller.device

    # And to files: the entry goes with the device that needed it.
    plain = await sealed(*enrol, "--json")
    assert plain.code == 0, plain.err
    assert not plain.json["keyring"]
    assert sealed.state.keyring_entry is None
    assert service.entries() == set()
    assert b"PRIVATE KEY" in (sealed.directory / "device.key").read_bytes()


async def test_an_enrolment_that_fails_leaves_no_entry(service: Keyring, perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    invite = perimeter.controller.invite()
    await perimeter.controller.door.close()
    with pytest.raises(CommandError, match="does not answer"):
        await enrol_device(state, invite, replace=False, name=None, keyring=True)
    assert service.entries() == set()
    assert not state.enrolled


async def test_a_keyring_that_keeps_nothing_is_refused_before_the_invite_is_spent(
    perimeter: Perimeter, make: Make
) -> None:
    gloam = make("state")
    gloam.set(PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring")
    invite = encode_invite(perimeter.controller.invite())
    refused = await gloam("enrol", invite, "--keyring")
    assert refused.code == 1
    assert refused.err == (
        "gloam: there is no system keyring that can be used (found: keyring.backends.null.Keyring); "
        "run one: gnome-keyring, KWallet or another Secret Service, in a D-Bus session; or enrol without --keyring\n"
    )
    assert not gloam.state.enrolled
    assert (await gloam("enrol", invite)).code == 0


@pytest.mark.parametrize("backend", ["fail.Keyring", "null.Keyring", "chainer.ChainerBackend", "absent.Keyring"])
def test_only_a_keyring_that_the_library_recommends_counts(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", f"keyring.backends.{backend}")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)  # as in a new process: it looks again
    with pytest.raises(KeyringError, match="no system keyring that can be used") as caught:
        system_keyring.store()
    assert "enrol without --keyring" in caught.value.fix


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)  # how Python itself marks what cannot be imported
    with pytest.raises(KeyringError, match="not installed") as caught:
        system_keyring.store()
    assert caught.value.fix == "add gloam's extra keyring to its environment: pip install 'keyring>=25.6,<26'"


@pytest.mark.parametrize("text", ["", "no base64!", b64encode(bytes(31)).decode()])
def test_an_entry_that_somebody_changed_holds_no_key(service: Keyring, text: str) -> None:
    made = system_keyring.store()
    assert system_keyring.fetch(made.entry) == made
    keyring.set_password(SERVICE, str(made.entry), text)
    with pytest.raises(KeyringError, match="holds no key of ours"):
        system_keyring.fetch(made.entry)
    system_keyring.forget(made.entry)
    system_keyring.forget(made.entry)
    assert service.entries() == set()
    assert made.key != Secret(bytes(32))
