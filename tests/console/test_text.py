import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.text import joined, visible, visible_lines

ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(codec=None)))
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(each) for each in shown} & ACTING
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grün 鍵", "grün 鍵"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\rb\nc\td\x00", r"a\rb\nc\td\x00"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("a\u2028b\u200bc\ufeff", r"a\u2028b\u200bc\ufeff"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_acts_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_may_be_kept() -> None:
    assert visible_lines("a\nb\x1bc\r\n") == "a\nb\\x1bc\\r\n"


@pytest.mark.parametrize(
    ("sentence", "fix", "line"),
    [
        ("yours is 21s old.", "prove it again", "yours is 21s old; prove it again"),
        ("yours is 21s old", "prove it again", "yours is 21s old; prove it again"),
        ("This device waits for approval.", "", "This device waits for approval"),
        ("", "prove it again", "prove it again"),
    ],
)
def test_a_sentence_and_its_fix_are_one_line(sentence: str, fix: str, line: str) -> None:
    assert joined(sentence, fix) == line
