"""Files in the age format: what opens, and what is said of what does not."""

import re
from pathlib import Path

import pytest

from certs.secret import Secret
from controller.errors import StorageError
from controller.safekeeping import encrypted
from controller.safekeeping.encrypted import Key, Lock, write_new

PASSPHRASE = Secret(b"seven words nobody would guess")


def test_what_was_encrypted_opens_with_its_passphrase_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Lock(PASSPHRASE).encrypt(b"hello")
    assert Key(PASSPHRASE).decrypt(data, "it") == b"hello"
    with pytest.raises(StorageError, match="does not open"):
        Key(Secret(b"another one altogether")).decrypt(data, "it")
    with pytest.raises(StorageError, match="no file in the age format"):
        Key(PASSPHRASE).decrypt(b"hello", "it")
    monkeypatch.setattr(encrypted, "PAUSE", 0.0)
    harder = re.sub(rb"(-> scrypt \S+) \d+", rb"\1 40", data, count=1)
    with pytest.raises(StorageError, match="too busy or too slow"):
        Key(PASSPHRASE).decrypt(harder, "it")


def test_a_passphrase_that_is_guessed_soon_is_refused() -> None:
    with pytest.raises(StorageError, match="fewer than 12"):
        Lock(Secret(b"eleven char"))


def test_nothing_is_overwritten_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_new(path, b"first")
    with pytest.raises(StorageError, match="exists already"):
        write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
