from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.identity.backup_codes import COUNT, digest, new_codes, read

ALICE, BOB = UUID(int=1), UUID(int=2)


def test_there_are_ten_and_no_two_alike() -> None:
    codes = new_codes()
    assert len(set(codes)) == COUNT == 10
    assert all(len(code) == 19 and code.count("-") == 3 for code in codes)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("0123-4567-89ab-cdef", "0123456789abcdef"),
        (" 0123 4567 89AB CDEF\n", "0123456789abcdef"),
        ("oOil-IL67-89ab-cdef", "0011116789abcdef"),  # what looks alike is the same
        ("0123-4567-89ab-cde", None),
        ("0123-4567-89ab-cdef0", None),
        ("0123-4567-89ab-cdeu", None),  # no u in the alphabet
        ("", None),
        ("123456", None),
        ("\uff10123-4567-89ab-cdef", None),
    ],
)
def test_codes_are_read_as_people_type_them(typed: str, code: str | None) -> None:
    assert read(typed) == code


def test_what_is_shown_can_be_typed_and_its_digest_is_its_owners() -> None:
    for shown in new_codes():
        code = read(shown)
        assert code is not None
        assert digest(ALICE, code) == digest(ALICE, code) != digest(BOB, code)
        assert code.encode() not in digest(ALICE, code)


@given(st.text(max_size=40))
def test_any_text_gets_an_answer(typed: str) -> None:
    code = read(typed)
    assert code is None or read(code) == code
