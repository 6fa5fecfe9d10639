"""Text from elsewhere, made harmless for a terminal.

Law: names, reasons and paths that others chose reach a terminal only through :func:`visible`. Control characters
could move the cursor, rewrite earlier lines or change the window's title; direction marks could reorder what is read.
"""

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, formats, surrogates, line and paragraph breaks
_LAST_ASCII: Final = "\x7f"


def visible(text: str) -> str:
    r"""``text`` with every character that would act instead of show written as its escape (``\x1b``, ``\u202e``)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(each) if unicodedata.category(each) in _HIDDEN else each for each in text)


def visible_lines(text: str) -> str:
    """As :func:`visible`, but line feeds stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


def joined(sentence: str, fix: str) -> str:
    """What is wrong and what to do, in one line; a sentence may bring its full stop with it."""
    return "; ".join(part for part in (sentence.removesuffix("."), fix) if part)


def escape(character: str) -> str:
    """The escape that Python would write for a character."""
    return character.encode("ascii", "backslashreplace").decode() if character > _LAST_ASCII else ascii(character)[1:-1]
