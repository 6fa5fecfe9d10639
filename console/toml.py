"""Writing TOML (the standard library only reads it).

Laws:

1. What is written reads back as the same values (``tomllib.loads``).
2. Plain keys come before tables, as TOML wants, and every entry stands below its comment.
3. None has no spelling in TOML: it is a commented-out key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_BARE_KEY: Final = re.compile(r"\A[A-Za-z0-9_-]+\Z")
_SHORT: Final = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class Table:
    """The entries below one ``[heading]``."""

    entries: "tuple[Entry, ...]"


@dataclass(frozen=True)
class Entry:
    """A key, its value (a :class:`Table` becomes a heading) and the sentence above it."""

    key: str
    value: object
    comment: str = ""


def toml_document(entries: Sequence[Entry], table: tuple[str, ...] = ()) -> str:
    """The entries as a TOML document, those that hold entries as tables after the others."""
    lines: list[str] = []
    for entry in entries:
        if not isinstance(entry.value, Table):
            assignment = f"{toml_key(entry.key)} = "
            spelled = f"# {assignment}" if entry.value is None else assignment + toml_value(entry.value)
            lines += [*_comment(entry.comment), spelled.rstrip(), ""]
    for entry in entries:
        if isinstance(entry.value, Table):
            inner = (*table, toml_key(entry.key))
            lines += [*_comment(entry.comment), f"[{'.'.join(inner)}]", toml_document(entry.value.entries, inner)]
    return "\n".join(lines)


def toml_key(key: str) -> str:
    """A key, quoted only where it must be."""
    return key if _BARE_KEY.match(key) else toml_value(key)


def toml_value(value: object) -> str:
    """A value in one line; ``TypeError`` or ``ValueError`` for what TOML cannot say."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{"".join(_escaped(each) for each in value)}"'
        case int():
            return str(value)
        case float():
            return repr(value)
        case Mapping():
            inside = ", ".join(f"{toml_key(str(key))} = {toml_value(each)}" for key, each in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(toml_value(each) for each in value)}]"
        case _:
            msg = f"TOML has no way to write a {type(value).__name__}"
            raise TypeError(msg)


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if "\ud800" <= character <= "\udfff":
        raise ValueError("text with half a character (a lone surrogate) cannot be written to a file")
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]
