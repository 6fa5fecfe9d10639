"""Where the master key comes from, and what is said when it is not there or no key."""

from pathlib import Path

import pytest

from certs.secret import Secret
from controller.storage import StorageError
from controller.storage.master import format_master_key, load_master_key, make_master_key

KEY = Secret(bytes(range(32)))
OTHER = Secret(bytes(32))


def test_a_new_key_is_a_private_file_that_reads_back(tmp_path: Path) -> None:
    key = make_master_key(tmp_path, {})
    assert load_master_key(tmp_path, {}) == key
    assert len(key) == 32
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600


def test_the_environment_is_first_and_leaves_no_file(tmp_path: Path) -> None:
    environ = {"GLOAM_MASTER_KEY": format_master_key(KEY)}
    assert make_master_key(tmp_path, environ) == KEY
    assert list(tmp_path.iterdir()) == []
    assert load_master_key(tmp_path, environ) == KEY


def test_a_systemd_credential_comes_before_the_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    made = make_master_key(tmp_path, environ)
    assert load_master_key(tmp_path, environ) == made
    (credentials / "gloam-master-key").write_text(format_master_key(OTHER))
    assert load_master_key(tmp_path, environ) == OTHER


@pytest.mark.parametrize("text", ["x", "A" * 42, "A" * 44, "!" * 43, "A" * 42 + "=", "é" * 43])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(StorageError, match="holds no master key") as caught:
        load_master_key(tmp_path, {"GLOAM_MASTER_KEY": text})
    assert text not in str(caught.value) or len(text) == 1


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is missing; put it back"):
        load_master_key(tmp_path, {})


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    make_master_key(tmp_path, {})
    (tmp_path / "master.key").chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        load_master_key(tmp_path, {})
