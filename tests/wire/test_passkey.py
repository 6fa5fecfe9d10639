"""What a challenge is bound to."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.passkey import CHALLENGE_BYTES, HANDLE_BYTES, Purpose, challenge, origin, user_handle

NONCE = bytes(range(32))
BOUND: dict[str, Any] = {
    "domain": "example.test",
    "root_sha256": b"r" * 32,
    "device": UUID(int=1),
    "device_key_sha256": b"k" * 32,
}


def test_a_challenge_is_its_nonce_and_whom_it_is_for() -> None:
    made = challenge(NONCE, Purpose.LOGIN, **BOUND)
    assert len(made) == CHALLENGE_BYTES
    assert made[:32] == NONCE
    # From docs/protocol.md by hand: the layout is part of the protocol.
    assert made[32:].hex() == "bfa9d5e5610369ec7d1fb9706b3ee6e6c768deb04e35d107b31e65270024f25d"


@pytest.mark.parametrize(
    "other",
    [
        {"domain": "example.tesu"},
        {"root_sha256": b"s" * 32},
        {"device": UUID(int=2)},
        {"device_key_sha256": b"l" * 32},
    ],
    ids=lambda each: next(iter(each)),
)
def test_another_perimeter_device_or_key_has_another_challenge(other: dict[str, Any]) -> None:
    assert challenge(NONCE, Purpose.LOGIN, **BOUND) != challenge(NONCE, Purpose.LOGIN, **{**BOUND, **other})


def test_another_purpose_has_another_challenge() -> None:
    assert challenge(NONCE, Purpose.LOGIN, **BOUND) != challenge(NONCE, Purpose.REGISTRATION, **BOUND)


@given(st.binary().filter(lambda each: len(each) != 32))
def test_a_nonce_has_its_length(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        challenge(nonce, Purpose.LOGIN, **BOUND)


def test_a_person_is_somebody_else_in_each_perimeter() -> None:
    handles = {
        user_handle(domain=domain, root_sha256=root, user=UUID(int=number))
        for domain in ("a.test", "b.test")
        for root in (b"r" * 32, b"s" * 32)
        for number in (1, 2)
    }
    assert len(handles) == 8
    assert {len(each) for each in handles} == {HANDLE_BYTES}


def test_the_origin_is_the_browsers_spelling() -> None:
    assert origin(40_001) == "http://localhost:40001"
