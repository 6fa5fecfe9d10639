"""The law that every message keeps, for the two targets that feed it (`session_messages`, `link_messages`)."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from tests.fuzz.target import Reached
from wire.errors import RemoteError
from wire.messages import Message

LONGEST_REFUSAL: Final = 300
GROWTH: Final = 64
"""How much longer than what was read its one written form may be: numbers, defaults and times are spelled out."""
SPARE: Final = 4096
_VARIABLE: Final = re.compile(r"\d+")


def check_text(text: bytes, readers: dict[str, Callable[[bytes], Message]], reached: Reached) -> None:
    """Each reader refuses `text` in one short line, or reads it; and then it means one thing, whoever reads it."""
    read: dict[str, Message] = {}
    for name, reader in readers.items():
        try:
            read[name] = reader(text)
        except RemoteError as error:
            assert len(str(error)) <= LONGEST_REFUSAL
            assert str(error).isprintable(), "a refusal repeats what a terminal would obey"
            reached(f"{name} {_VARIABLE.sub('N', str(error))}")
    for name, message in read.items():
        reached(f"{name} {type(message).__name__}")
        written = message.model_dump_json()
        assert readers[name](written.encode()) == message
        assert readers[name](written.encode()).model_dump_json() == written
        assert len(written) <= GROWTH * len(text) + SPARE
        sound(message.model_dump())
        assert json.loads(written).get("type") == json.loads(text).get("type")
        # A message of one direction is nothing in the other: nobody can be told their own words.
        assert not hasattr(message, "type") or len(read) == 1


def sound(value: Any) -> None:
    """What the roles do with values without asking: times are moved to UTC and compared, text is stored."""
    match value:
        case dict():
            for key, each in value.items():
                sound(key)
                sound(each)
        case list() | tuple():
            for each in value:
                sound(each)
        case datetime():
            assert value.astimezone(UTC) == value
            assert value.utcoffset() is not None
        case str():
            value.encode()
        case float():
            assert value == value, "not a number"  # noqa: PLR0124
        case _:
            pass
