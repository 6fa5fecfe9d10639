"""Cedar text as tokens: enough to split a file into policies, to say where something is, and to bound it.

Laws:

1. It judges nothing: what a policy means is what Cedar makes of exactly the text between ``start`` and ``end``.
2. What could exhaust Cedar's stack never reaches it: its parser recurses, and some 1,000 nested brackets or 2,000
   operators in a row end the process (measured with cedarpy 4.12; upstream is cedar-policy/cedar#2383).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_FILE: Final = 256 * 1024  # characters of one file: hundreds of policies
MAX_TOKENS: Final = 2_000  # of one policy
MAX_DEPTH: Final = 32  # brackets within brackets

_TOKEN: Final = re.compile(
    r"""(?P<skip>\A\ufeff|\s+|//[^\r\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9]+)
    |(?P<mark>::|==|!=|<=|>=|&&|\|\||[-@?{}()\[\],;:.<>!+*/%=])
    |(?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it is: offsets into the whole text, the end not included."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """The tokens up to and with a semicolon; the last one of a text may lack it."""

    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Where it ends, not included."""
        return self.tokens[-1].end

    def too_deep(self) -> Token | None:
        """The bracket or token that goes past the bounds of law 2."""
        depth = 0
        for token in self.tokens:
            if token.kind == "mark":
                depth += (token.text in "([{") - (token.text in ")]}")
            if depth > MAX_DEPTH:
                return token
        return self.tokens[MAX_TOKENS] if len(self.tokens) > MAX_TOKENS else None


def scan(text: str) -> tuple[Token, ...]:
    """Every token of ``text`` but white space and comments; what is none is of the kind ``bad``."""
    return tuple(
        Token(str(match.lastgroup), match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "skip"
    )


def split(tokens: Sequence[Token]) -> tuple[Statement, ...]:
    """The statements: in Cedar a semicolon ends a policy and is nowhere else."""
    statements = []
    first = 0
    for index, token in enumerate(tokens):
        if token.text == ";":
            statements.append(Statement(tuple(tokens[first : index + 1])))
            first = index + 1
    if first < len(tokens):
        statements.append(Statement(tuple(tokens[first:])))
    return tuple(statements)


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of ``offset``, both from 1, the column in characters."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def quote(text: str) -> str:
    """``text`` as a Cedar string literal."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isascii() and character.isprintable():
        return character
    return f"\\u{{{ord(character):x}}}"
