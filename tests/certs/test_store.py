import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.errors import BadCertificate, BadName, MissingFileError, Refusal, StoreError
from certs.identity import Identity
from certs.issue import new_private_key, private_key_pem
from certs.names import Name
from certs.secret import Secret
from certs.store import (
    LARGEST_FILE,
    IdentityStore,
    check_state_directory,
    make_state_directory,
    read_private,
    write_private,
    write_public,
)

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def make_identity(authorities: Any) -> Identity:
    return authorities.issue(DEVICE)


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path)


def test_private_files_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
        write_public(tmp_path / "certificate", b"public")
    finally:
        os.umask(before)
    assert mode(tmp_path / "key") == 0o600
    assert mode(tmp_path / "certificate") == 0o644
    assert read_private(tmp_path / "key") == b"secret"


def test_replacing_keeps_the_mode_narrow_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_private(path, b"new")
    assert (mode(path), path.read_bytes()) == (0o600, b"new")
    assert names_in(tmp_path) == ["key"]


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_read_is_refused_with_the_fix(tmp_path: Path, wide: int) -> None:
    path = tmp_path / "key"
    write_private(path, b"secret")
    path.chmod(wide)
    with pytest.raises(StoreError, match="may be read by others") as caught:
        read_private(path)
    assert caught.value.fix == f"run chmod 600 {path}"


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(StoreError, match="not a plain file"):
        read_private(tmp_path / "pipe")
    with pytest.raises(StoreError, match="not a plain file"):
        read_private(tmp_path)


def test_missing_unreadable_and_oversized_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        read_private(tmp_path / "key")
    assert caught.value.fix
    with pytest.raises(StoreError, match="cannot be used"):
        read_private(tmp_path / ("x" * 300))
    write_private(tmp_path / "key", b"x" * (LARGEST_FILE + 1))
    with pytest.raises(StoreError, match="is longer than"):
        read_private(tmp_path / "key")


def test_a_failed_write_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        write_private(tmp_path / "key", b"secret")
    assert names_in(tmp_path) == ["key"]
    with pytest.raises(StoreError, match="cannot be used"):
        write_private(tmp_path / "absent" / "key", b"secret")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_ours_to_trust(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"secret")
    assert read_private(path)
    os.chown(path, 12345, -1)
    assert read_private(path), "root may use what belongs to others"
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from certs.errors import StoreError\n"
        "from certs.store import _check_owner\n"
        "status = os.stat(sys.argv[1])\n"
        "os.seteuid(54321)\n"
        "try:\n"
        "    _check_owner(Path(sys.argv[1]), status)\n"
        "except StoreError as error:\n"
        "    print(error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("run chown 54321")


def test_the_state_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make_state_directory(path)
    make_state_directory(path)
    assert mode(path) == 0o700
    path.chmod(0o750)
    with pytest.raises(StoreError, match="may be entered by others") as caught:
        make_state_directory(path)
    assert caught.value.fix == f"run chmod 700 {path}"


def test_a_state_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not a directory"):
        make_state_directory(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be used"):
        make_state_directory(tmp_path / "file" / "below")


def test_a_state_directory_is_checked_without_being_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is missing"):
        check_state_directory(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not a directory"):
        check_state_directory(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be used"):
        check_state_directory(tmp_path / "file" / "below")
    make_state_directory(tmp_path / "state")
    check_state_directory(tmp_path / "state")
    (tmp_path / "state").chmod(0o701)
    with pytest.raises(StoreError, match="may be entered by others"):
        check_state_directory(tmp_path / "state")


def test_an_identity_reads_back(store: IdentityStore, authorities: Any) -> None:
    identity = make_identity(authorities)
    assert not store.exists("device")
    store.save("device", identity)
    assert store.exists("device")
    assert store.load("device") == identity
    assert store.load("device").name == DEVICE
    assert mode(store.directory / "device.key") == 0o600
    assert names_in(store.directory) == ["device.key", "device.pem"]


def test_labels_do_not_meet(store: IdentityStore, authorities: Any) -> None:
    first, second = make_identity(authorities), make_identity(authorities)
    store.save("device", first)
    store.save("session", second)
    assert (store.load("device"), store.load("session")) == (first, second)
    store.remove("device")
    store.remove("device")
    assert not store.exists("device")
    assert store.load("session") == second
    with pytest.raises(MissingFileError):
        store.load("device")


@pytest.mark.parametrize("label", ["", "..", "a/b", "../device", "Device", "a\0b"])
def test_a_label_is_no_path(store: IdentityStore, authorities: Any, label: str) -> None:
    for use in (store.load, store.exists, store.remove, lambda label: store.save(label, make_identity(authorities))):
        with pytest.raises(BadName):
            use(label)


def test_a_store_without_its_directory(tmp_path: Path, authorities: Any) -> None:
    store = IdentityStore(tmp_path / "absent")
    for use in (store.remove, lambda label: store.save(label, make_identity(authorities))):
        with pytest.raises(StoreError, match="cannot be used"):
            use("device")


@pytest.mark.parametrize("steps", range(4))
def test_a_save_that_stops_after_any_step_leaves_the_old_identity_or_the_new(
    store: IdentityStore, authorities: Any, steps: int
) -> None:
    old, new = make_identity(authorities), make_identity(authorities)
    store.save("device", old)
    saving = store._replace("device", new)
    done = [next(saving) for _ in range(steps)]
    assert store.load("device") == (new if "certificate changed" in done else old)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(5))
def test_so_does_a_second_save_after_a_first_that_stopped(
    store: IdentityStore, authorities: Any, first: int, second: int
) -> None:
    identities = [make_identity(authorities) for _ in range(4)]
    store.save("device", identities[0])
    expected = identities[0]
    for identity, steps in ((identities[1], first), (identities[2], second)):
        for _, step in zip(range(steps), store._replace("device", identity), strict=False):
            if step == "certificate changed":
                expected = identity
        assert store.load("device") == expected
    store.save("device", identities[3])
    assert store.load("device") == identities[3]
    assert names_in(store.directory) == ["device.key", "device.pem"]


def test_the_first_save_of_all_may_stop_too(store: IdentityStore, authorities: Any) -> None:
    identity = make_identity(authorities)
    next(store._replace("device", identity))
    assert not store.exists("device")
    store.save("device", identity)
    assert store.load("device") == identity


SAVE_FOREVER = """
import sys
from pathlib import Path
from certs.identity import Identity
from certs.secret import Secret
from certs.store import IdentityStore
directory, *sources = map(Path, sys.argv[1:])
identities = [Identity.from_pem(Secret(s.with_suffix(".k").read_bytes()), s.read_bytes()) for s in sources]
store = IdentityStore(directory)
print("ready", flush=True)
while True:
    for identity in identities:
        store.save("device", identity)
"""


@pytest.mark.parametrize("reads", [1, 3, 7, 20])
def test_a_killed_saver_leaves_a_whole_identity_and_readers_never_see_a_mix(
    tmp_path: Path, authorities: Any, reads: int
) -> None:
    directory = tmp_path / "state"
    make_state_directory(directory)
    store = IdentityStore(directory)
    identities = [make_identity(authorities) for _ in range(2)]
    store.save("device", identities[0])
    sources = []
    for number, identity in enumerate(identities):
        sources.append(tmp_path / f"{number}.pem")
        sources[-1].write_bytes(identity.chain_pem)
        sources[-1].with_suffix(".k").write_bytes(identity.key.reveal())
    command = [sys.executable, "-c", SAVE_FOREVER, str(directory), *map(str, sources)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as saver:
        assert saver.stdout is not None
        assert saver.stdout.readline() == b"ready\n"
        for _ in range(reads):
            assert store.load("device") in identities
        saver.send_signal(signal.SIGKILL)
    assert store.load("device") in identities
    store.save("device", identities[1])
    assert store.load("device") == identities[1]


def test_savers_take_turns(store: IdentityStore, authorities: Any) -> None:
    identities = [make_identity(authorities) for _ in range(6)]
    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(lambda identity: store.save("device", identity), identities))
    assert store.load("device") in identities
    assert names_in(store.directory) == ["device.key", "device.pem"]


def test_a_damaged_identity_is_refused_with_a_fix(store: IdentityStore, authorities: Any) -> None:
    store.save("device", make_identity(authorities))
    key, chain = store.directory / "device.key", store.directory / "device.pem"
    write_private(key, private_key_pem(new_private_key()).reveal())
    with pytest.raises(StoreError, match="is damaged: the private key is not the one") as caught:
        store.load("device")
    assert "enrol again" in caught.value.fix
    key.unlink()
    with pytest.raises(StoreError, match="its key is missing"):
        store.load("device")
    write_private(key, b"garbage")
    with pytest.raises(StoreError, match="cannot be read"):
        store.load("device")
    chain.write_bytes(b"")
    with pytest.raises(StoreError, match="damaged"):
        store.load("device")


def test_wide_permissions_of_a_stored_key_are_named_as_such(store: IdentityStore, authorities: Any) -> None:
    store.save("device", make_identity(authorities))
    (store.directory / "device.key").chmod(0o644)
    with pytest.raises(StoreError, match="may be read by others"):
        store.load("device")


def test_an_identity_is_whole(authorities: Any) -> None:
    identity = make_identity(authorities)
    assert identity.leaf is identity.chain[0]
    assert Identity.from_pem(identity.key, identity.chain_pem) == identity
    assert "PRIVATE" not in repr(identity)
    for key, chain, reason in (
        (identity.key, (), Refusal.MALFORMED),
        (private_key_pem(new_private_key()), identity.chain, Refusal.BAD_KEY),
        (Secret(b""), identity.chain, Refusal.BAD_KEY),
    ):
        with pytest.raises(BadCertificate) as caught:
            Identity(key, chain)
        assert caught.value.reason is reason


def test_an_authority_is_no_identity(authorities: Any) -> None:
    root = authorities.root
    with pytest.raises(BadCertificate) as caught:
        Identity(private_key_pem(root.key), (root.certificate,))
    assert caught.value.reason is Refusal.BAD_NAME


def test_an_identity_knows_its_times(authorities: Any) -> None:
    identity = authorities.issue(DEVICE, lifetime=timedelta(minutes=30))
    assert identity.renewal_due == NOW + timedelta(minutes=20)
    assert not identity.expired(NOW)
    assert identity.expired(NOW + timedelta(hours=1))
