"""The laws of sealing.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.secret import Secret
from controller.storage import Sealer, SealError

SEALER = Sealer(Secret(b"m" * 32))


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_was_sealed_opens_in_its_place_alone(value: bytes, context: str) -> None:
    sealed = SEALER.seal(Secret(value), context)
    assert SEALER.open(sealed, context) == Secret(value)
    assert len(value) < 4 or value not in sealed
    with pytest.raises(SealError, match="belongs elsewhere"):
        SEALER.open(sealed, context + "x")


@given(st.integers(min_value=0, max_value=50), st.integers(min_value=1, max_value=255))
def test_no_byte_can_be_changed(place: int, bits: int) -> None:
    sealed = bytearray(SEALER.seal(Secret(b"totp secret"), "user/1/totp"))
    sealed[place % len(sealed)] ^= bits
    with pytest.raises(SealError):
        SEALER.open(bytes(sealed), "user/1/totp")


@pytest.mark.parametrize("length", range(34))
def test_nothing_shorter_opens(length: int) -> None:
    with pytest.raises(SealError):
        SEALER.open(SEALER.seal(Secret(b"x"), "c")[:length], "c")


def test_another_master_key_is_told_apart() -> None:
    with pytest.raises(SealError, match="another master key"):
        Sealer.fresh().open(SEALER.seal(Secret(b"x"), "c"), "c")


def test_sealing_twice_gives_different_bytes() -> None:
    assert SEALER.seal(Secret(b"x"), "c") != SEALER.seal(Secret(b"x"), "c")


def test_derived_keys_differ_and_say_nothing() -> None:
    keys = {SEALER.derive(label).reveal() for label in ("a", "b", "gloam sealing v1")}
    assert len(keys) == 3
    assert b"m" * 8 not in b"".join(keys)
    assert SEALER.fingerprint == Sealer(Secret(b"m" * 32)).fingerprint != Sealer.fresh().fingerprint


def test_a_master_key_has_one_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(Secret(b"short"))


def test_values_sealed_by_this_version_open_for_ever() -> None:
    """A fixed value: a change of layout or derivation would lock every database out."""
    sealed = bytes.fromhex(
        "01d813b74c7f702cf8c251a6409c0f7b2a186d6490d577cde155806990b04e974158164371386d86c55bcd8489b0be"
    )
    assert SEALER.open(sealed, "device/1/knock") == Secret(b"a knock secret")
