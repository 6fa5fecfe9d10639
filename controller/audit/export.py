"""Records in the formats of others: OCSF 1.3 (JSON), CEF 0, JSON lines. One record, one line.

Laws:

1. Nothing is left out: what a format has no field for goes into its field for the rest.
2. What a stranger chose (names, reasons) cannot end a line or a field early.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final, Literal, assert_never

from controller.audit.entry import Entry
from controller.audit.events import Event, decode_event

Format = Literal["ocsf", "cef", "jsonl"]
OCSF_VERSION: Final = "1.3.0"
_PRODUCT: Final = {"name": "gloam", "vendor_name": "gloam"}
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3  # OCSF severity_id
_CEF_SEVERITY: Final = {_INFORMATIONAL: 1, _LOW: 4, _MEDIUM: 6}
_CEF_KEYS: Final = {
    "user": "suser",
    "actor": "suser",
    "source": "src",
    "target": "dst",
    "resource": "destinationServiceName",
    "code": "reason",
    "detail": "msg",
    "bytes_up": "out",
    "bytes_down": "in",
}


def line(entry: Entry, form: Format) -> str:
    """The record as one line without its end."""
    match form:
        case "jsonl":
            return _json(entry.document())
        case "ocsf":
            return _json(ocsf(entry))
        case "cef":
            return cef(entry)
        case _:
            assert_never(form)


def ocsf(entry: Entry) -> dict[str, Any]:
    """The record as an OCSF event of the class its event names."""
    event = decode_event(json.dumps(entry.event))
    rest = {key: value for key, value in entry.event.items() if key != "kind" and value not in (None, "", [])}
    document: dict[str, Any] = {
        "class_uid": int(event.ocsf),
        "category_uid": int(event.ocsf) // 1000,
        "activity_id": event.activity,
        "type_uid": int(event.ocsf) * 100 + event.activity,
        "time": _milliseconds(entry.at),
        "severity_id": _severity(event),
        "status_id": 2 if event.failure else 1,
        "metadata": {
            "version": OCSF_VERSION,
            "product": _PRODUCT,
            "uid": f"{entry.chain}/{entry.seq}",
            "event_code": entry.kind,
        },
    }
    if who := rest.pop("user", None) or rest.get("actor"):
        document["user" if entry.kind != "change.made" else "actor"] = (
            {"name": who} if entry.kind != "change.made" else {"user": {"name": who}}
        )
    if device := rest.pop("device", None):
        document["device"] = {"uid": device, "type_id": 0}
    if session := rest.pop("session", None):
        document["session"] = {"uid": session}
    if source := rest.pop("source", None):
        document["src_endpoint"] = _endpoint(source)
    if target := rest.pop("target", None):
        document["dst_endpoint"] = _endpoint(target)
    if "bytes_up" in rest:
        up, down = rest.pop("bytes_up"), rest.pop("bytes_down")
        document["traffic"] = {"bytes_in": down, "bytes_out": up, "bytes": up + down}
    if code := rest.pop("code", None):
        document["status_code"] = code
    if detail := rest.pop("detail", None):
        document["status_detail"] = detail
    if rest:
        document["unmapped"] = rest
    return document


def cef(entry: Entry) -> str:
    """The record as a line of ArcSight's Common Event Format, version 0."""
    event = decode_event(json.dumps(entry.event))
    header = ("gloam", "gloam", "1", entry.kind, entry.kind.replace(".", " "), str(_CEF_SEVERITY[_severity(event)]))
    extension = {"rt": str(_milliseconds(entry.at)), "externalId": f"{entry.chain}/{entry.seq}"}
    for key, value in entry.event.items():
        if key == "kind" or value in (None, "", []):
            continue
        name = _CEF_KEYS.get(key, f"gloam{key.title().replace('_', '')}")
        extension.setdefault(name, value if isinstance(value, str) else _json(value))
    fields = " ".join(f"{key}={_cef_value(value)}" for key, value in extension.items())
    return f"CEF:0|{'|'.join(_cef_header(part) for part in header)}|{fields}"


def _severity(event: Event) -> int:
    if event.kind == "link.protocol_error":
        return _MEDIUM
    return _LOW if event.failure else _INFORMATIONAL


def _milliseconds(at: datetime) -> int:
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000


def _endpoint(text: str) -> dict[str, Any]:
    """An address or HOST:PORT, as OCSF has it."""
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in host or host.startswith("[")):
        return {"ip": host.strip("[]"), "port": int(port)}
    return {"ip": text}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _cef_header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(text: str) -> str:
    """Backslash, equals sign and line ends escaped as CEF wants; other control characters made harmless."""
    escaped = text.replace("\\", "\\\\").replace("=", "\\=").replace("\r", "\\r").replace("\n", "\\n")
    return "".join(character if character.isprintable() else "?" for character in escaped)
