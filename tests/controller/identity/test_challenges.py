"""Challenges: for one device and purpose, once, in time, and never too many."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from controller.identity import challenges
from controller.identity.challenges import EACH, LIFETIME, Asked, Challenges, Reason
from wire.passkey import Purpose

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEVICE, USER = uuid4(), uuid4()
LOGIN = Asked(Purpose.LOGIN, USER)


def test_a_challenge_counts_once() -> None:
    book = Challenges()
    book.ask(DEVICE, b"one", LOGIN, NOW)
    assert book.answer(DEVICE, b"one", LOGIN, NOW) is None
    assert book.answer(DEVICE, b"one", LOGIN, NOW) is Reason.USED


@pytest.mark.parametrize(
    ("device", "challenge", "asked"),
    [
        (uuid4(), b"one", LOGIN),
        (DEVICE, b"two", LOGIN),
        (DEVICE, b"one", Asked(Purpose.LOGIN, uuid4())),
        (DEVICE, b"one", Asked(Purpose.REGISTRATION, USER)),
        (DEVICE, b"one", Asked(Purpose.LOGIN, USER, uuid4())),
    ],
    ids=["another device", "another challenge", "another person", "another purpose", "another session"],
)
def test_a_challenge_counts_for_what_it_was_made_for(device: UUID, challenge: bytes, asked: Asked) -> None:
    book = Challenges()
    book.ask(DEVICE, b"one", LOGIN, NOW)
    assert book.answer(device, challenge, asked, NOW) is Reason.UNKNOWN
    assert book.answer(DEVICE, b"one", LOGIN, NOW) is None, "and is not used up by others"


def test_a_late_answer_uses_the_challenge_up() -> None:
    book = Challenges()
    book.ask(DEVICE, b"one", LOGIN, NOW)
    assert book.answer(DEVICE, b"one", LOGIN, NOW + LIFETIME) is Reason.EXPIRED
    assert book.answer(DEVICE, b"one", LOGIN, NOW) is Reason.USED, "a clock set back opens nothing"


def test_a_device_has_a_few_and_the_oldest_makes_way() -> None:
    book = Challenges()
    for number in range(EACH + 1):
        book.ask(DEVICE, bytes([number]), LOGIN, NOW)
    assert len(book) == EACH
    assert book.answer(DEVICE, bytes([0]), LOGIN, NOW) is Reason.UNKNOWN
    assert book.answer(DEVICE, bytes([1]), LOGIN, NOW) is None


def test_many_devices_are_bounded_and_the_oldest_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "DEVICES", 3)
    book = Challenges()
    devices = [uuid4() for _ in range(4)]
    for device in devices:
        book.ask(device, b"one", LOGIN, NOW)
    assert len(book) == 3
    assert [book.answer(each, b"one", LOGIN, NOW) for each in devices] == [Reason.UNKNOWN, None, None, None]


def test_what_is_long_over_is_forgotten() -> None:
    book = Challenges()
    book.ask(uuid4(), b"one", LOGIN, NOW)
    book.ask(uuid4(), b"two", LOGIN, NOW + 2 * LIFETIME - timedelta(seconds=1))
    assert len(book) == 2
    book.ask(uuid4(), b"three", LOGIN, NOW + 2 * LIFETIME)
    assert len(book) == 2
