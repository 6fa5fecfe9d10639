"""`certs/sealing.py`."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import BadCertificate, StoreError
from certs.names import Name
from certs.sealing import MARK, SealingKey, Vault, entry_of
from certs.secret import Secret
from certs.store import IdentityStore

KEY = SealingKey.fresh()
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")


@given(secret=st.binary(max_size=4096), use=st.text(max_size=64))
def test_what_is_sealed_opens_for_its_use_and_shows_nothing(secret: bytes, use: str) -> None:
    sealed = KEY.seal(Secret(secret), use)
    assert KEY.open(sealed, use) == Secret(secret)
    assert entry_of(sealed) == KEY.entry
    assert len(secret) < 8 or secret not in sealed[len(MARK) :]
    assert KEY.seal(Secret(secret), use) != sealed
    with pytest.raises(StoreError, match="was changed or belongs elsewhere"):
        KEY.open(sealed, use + "!")


@given(data=st.data())
def test_a_changed_byte_or_a_lost_end_opens_nothing(data: st.DataObject) -> None:
    sealed = KEY.seal(Secret(b"a key"), "device key")
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[at] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), sealed[:at]):
        with pytest.raises(StoreError):
            KEY.open(wrong, "device key")


def test_another_key_of_the_same_entry_opens_nothing() -> None:
    other = SealingKey(KEY.entry, Secret.fresh())
    with pytest.raises(StoreError):
        other.open(KEY.seal(Secret(b"a key"), "device key"), "device key")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_sealing_key_has_one_length(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SealingKey(KEY.entry, Secret(bytes(length)))


def test_nothing_shows_a_key() -> None:
    assert repr(KEY) == f"SealingKey(entry={KEY.entry!r}, key=Secret(…))"


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PRIVATE KEY-----", MARK[:-1], bytes(200)])
def test_what_is_not_sealed_is_read_as_it_is(data: bytes) -> None:
    assert entry_of(data) is None
    assert Vault().open(data, "device key") == Secret(data)


def test_a_mark_with_too_little_behind_it_is_damaged() -> None:
    with pytest.raises(StoreError, match="was changed"):
        entry_of(MARK + bytes(43))


def test_a_vault_asks_once_for_each_entry_and_writes_as_it_follows() -> None:
    asked: list[UUID] = []

    def fetch(entry: UUID) -> SealingKey:
        asked.append(entry)
        return KEY

    sealed = KEY.seal(Secret(b"a key"), "device key")
    vault = Vault(fetch)
    assert [vault.open(sealed, "device key") for _ in range(3)] == [Secret(b"a key")] * 3
    assert asked == [KEY.entry]
    assert vault.close(Secret(b"next"), "session key") == b"next"
    vault.follow(sealed)
    assert KEY.open(vault.close(Secret(b"next"), "session key"), "session key") == Secret(b"next")
    vault.follow(b"clear")
    assert vault.close(Secret(b"next"), "session key") == b"next"
    assert asked == [KEY.entry]


def test_identities_are_sealed_each_for_its_label(tmp_path: Path, authorities: Any) -> None:
    first, second = authorities.issue(DEVICE), authorities.issue(DEVICE)
    store = IdentityStore(tmp_path, Vault(key=KEY))
    for identity in (first, second):
        store.save("device", identity)
        assert store.load("device") == identity
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(b"PRIVATE KEY" in data for data in files)
    # A crash between the certificate and the key, as in test_store: the next save still mends it.
    steps = store._replace("device", first)
    assert [next(steps), next(steps)] == ["key written", "certificate changed"]
    assert store.load("device") == first
    store.save("device", second)
    assert store.load("device") == second

    (tmp_path / "session.pem").write_bytes((tmp_path / "device.pem").read_bytes())
    (tmp_path / "session.key").write_bytes((tmp_path / "device.key").read_bytes())
    (tmp_path / "session.key").chmod(0o600)
    with pytest.raises(StoreError, match="session key was changed or belongs elsewhere"):
        store.load("session")
    with pytest.raises(StoreError, match="sealed with entry"):
        IdentityStore(tmp_path).load("device")
    (tmp_path / "device.key").write_bytes(KEY.seal(Secret(b"no key"), "device key"))
    with pytest.raises((StoreError, BadCertificate)):
        store.load("device")
