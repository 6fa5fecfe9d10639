"""Every kind of event is exported in every format, on one line, with nothing left out."""

import json
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import ValidationError

from controller.audit import events, export
from controller.audit.entry import Entry

NOW = datetime(2026, 3, 1, 12, 0, 0, 5_000, tzinfo=UTC)
HOSTILE = "eve\n| = \\ CEF:0|x\x1b[31m\u2028"
KINDS = get_args(get_args(events.AnyEvent)[0])


def example(kind: type[events.Event]) -> events.Event:
    """An event with hostile text wherever text goes."""
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name == "kind" or not field.is_required():
            continue
        annotation = str(field.annotation)
        for part, value in (
            ("UUID", UUID(int=1)),
            ("Literal", get_args(field.annotation)[:1][0] if get_args(field.annotation) else None),
            ("Witnessed", ()),
            ("tuple", (HOSTILE,)),
            ("datetime", NOW),
            ("AwareDatetime", NOW),
            ("bool", True),
            ("int", 3),
            ("float", 1.5),
            ("str", HOSTILE),
        ):
            if part in annotation:
                values[name] = value
                break
    return kind(kind=kind.model_fields["kind"].default, **values)


def entry(event: events.Event) -> Entry:
    return Entry(UUID(int=9), 4, NOW, event.kind, json.loads(events.encode_event(event)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("form", ["ocsf", "cef", "jsonl"])
def test_every_event_is_one_line(kind: type[events.Event], form: export.Format) -> None:
    text = export.line(entry(example(kind)), form)
    assert text.splitlines() == [text]
    assert "\x1b" not in text
    if form != "cef":
        json.loads(text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_survives_being_stored(kind: type[events.Event]) -> None:
    event = example(kind)
    assert events.decode_event(events.encode_event(event)) == event
    document = export.ocsf(entry(event))
    assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
    assert document["time"] == 1_772_366_400_005


def test_a_tunnel_in_ocsf() -> None:
    event = events.TunnelClosed(
        gateway="edge", tunnel=UUID(int=1), session=UUID(int=2), user="ada", device=UUID(int=3),
        source="192.0.2.7:40000", resource="wiki", target="[2001:db8::1]:80", policies=("grant/1",),
        bytes_up=10, bytes_down=32, seconds=1.5, code="client_closed",
    )  # fmt: skip
    document = export.ocsf(entry(event))
    assert document["class_uid"] == 4001
    assert document["src_endpoint"] == {"ip": "192.0.2.7", "port": 40000}
    assert document["dst_endpoint"] == {"ip": "2001:db8::1", "port": 80}
    assert document["traffic"] == {"bytes_in": 32, "bytes_out": 10, "bytes": 42}
    assert document["unmapped"]["policies"] == ["grant/1"]
    assert "suser=ada" in export.line(entry(event), "cef")


def test_cef_fields_cannot_be_forged() -> None:
    event = events.LoginRefused(user="a=b|c\nsrc=1.2.3.4", device=None, source="192.0.2.7", code="unknown_user")
    text = export.line(entry(event), "cef")
    assert r"suser=a\=b|c\nsrc\=1.2.3.4 " in text
    assert text.startswith("CEF:0|gloam|gloam|1|login.refused|login refused|4|")


def test_text_from_strangers_is_cut_and_made_storable_never_refused() -> None:
    event = events.LoginRefused(user="x" * 5_000, device=None, source="\udc80", code="c", detail="\x00")
    assert len(event.user) == events.TEXT_LIMIT
    assert event.source == "?"
    assert events.decode_event(events.encode_event(event)) == event
    many = events.LeaseLagging(session=UUID(int=1), gateways=tuple(str(each) for each in range(100)))
    assert len(many.gateways) == events.LIST_LIMIT


def test_what_is_no_text_is_not_taken_for_text() -> None:
    with pytest.raises(ValidationError):
        events.ControllerStopped.model_validate({"controller": 7})
