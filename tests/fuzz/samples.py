"""JSON documents that pydantic models accept, made from their schemas, and ways to change a document.

So every message anybody adds is fuzzed from the day it is added.
"""

import base64
import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

Document = Any  # what JSON can hold

BY_FORMAT: Final = {
    "uuid": "6f1d9d6e-0b7a-4c2f-9d3e-5a1b2c3d4e5f",
    "date-time": "2026-11-22T05:00:00Z",
}
ODD: Final[tuple[Document, ...]] = (
    None, True, False, -1, 0, 1, 65_536, 2**63 - 1, 2**63, 2**64, 0.5, 1e308, "", "7", "x" * 1025, "\x00", "\x1b[2J",
    "\u202e", "\ud800", "a\nb", "-", "=", [], {}, [[]], "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00",
    "2026-11-22T05:00:00", "NaN", float("nan"), float("inf"),
)  # fmt: skip


def samples(schema: dict[str, Any]) -> Iterator[Document]:
    """For each model of a schema's union: a document with every field, and one with only those it must have."""
    definitions = schema.get("$defs", {})
    for one in schema.get("oneOf", [schema]):
        for whole in (True, False):
            yield _sample(one, definitions, whole=whole)


def words(schema: dict[str, Any]) -> tuple[bytes, ...]:
    """The field names and fixed values of a schema, as JSON."""
    found: set[str] = set()
    pending: list[Document] = [schema]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending += each
        elif isinstance(each, dict):
            found |= set(each.get("properties", {}))
            found |= {value for value in (each.get("const"), *each.get("enum", [])) if isinstance(value, str)}
            pending += each.values()
    return tuple(json.dumps(word).encode() for word in sorted(found))


def changed(data: bytes, random: Random) -> bytes:
    """`data` with one value somewhere in it replaced, removed, doubled or added; as it is if it is no JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = list(_places(document))
    if not places:
        return json.dumps(random.choice(ODD)).encode()
    holder, key = random.choice(places)
    other, its_key = random.choice(places)
    match random.randrange(5):
        case 0:
            holder[key] = random.choice(ODD)
        case 1:
            del holder[key]
        case 2:
            holder[key] = json.loads(json.dumps(other[its_key]))
        case 3 if isinstance(holder, list):
            holder += [holder[key]] * random.choice((1, 1, 20))
        case 3:
            holder[random.choice(("type", "seq", "\x1b]0;", "x" * 200))] = holder[key]
        case _:
            holder[key] = _near(holder[key], random)
    return json.dumps(document, ensure_ascii=random.random() < 0.9).encode("utf-8", "surrogatepass")


def _near(value: Document, random: Random) -> Document:
    """A value beside this one: longer, shorter, of another type."""
    match value:
        case bool() | None:
            return str(value)
        case int() | float():
            return random.choice((-value, value + 1, value - 1, str(value), float(value), value * 2**40))
        case str():
            at = random.randint(0, len(value))
            return random.choice(
                (value[:at], value[at:], value * 2, value[:at] + chr(random.randrange(256)) + value[at:])
            )
        case _:
            return json.dumps(value)


def _places(document: Document) -> Iterator[tuple[Any, Any]]:
    """Every value below the top, as the list or object that holds it and its place there."""
    pending = [document]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            pending.append(holder[key])


def _sample(schema: dict[str, Any], definitions: dict[str, Any], *, whole: bool) -> Document:  # noqa: PLR0911 (one a type)
    if "$ref" in schema:
        return _sample(definitions[schema["$ref"].rpartition("/")[2]], definitions, whole=whole)
    if either := schema.get("anyOf", schema.get("oneOf")):
        return _sample(either[0 if whole else -1], definitions, whole=whole)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object" if schema.get("additionalProperties"):
            return {"length": _sample(schema["additionalProperties"], definitions, whole=whole)} if whole else {}
        case "object":
            names = schema.get("properties", {}) if whole else schema.get("required", [])
            wanted = {*names, "type"} & {*schema.get("properties", {})}
            return {name: _sample(schema["properties"][name], definitions, whole=whole) for name in sorted(wanted)}
        case "array":
            count = max(schema.get("minItems", 0), 1 if whole else 0)
            return [_sample(schema["items"], definitions, whole=whole)] * count
        case "integer" | "number":
            return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return whole
        case "string":
            return _text(schema)
        case _:
            return None


def _text(schema: dict[str, Any]) -> str:
    if schema.get("format") in {"binary", "base64url"}:
        return base64.urlsafe_b64encode(bytes(schema.get("minLength", 0))).rstrip(b"=").decode()
    return BY_FORMAT.get(schema.get("format", ""), "edge" if schema.get("maxLength", 63) > 3 else "")
