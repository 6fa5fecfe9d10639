"""`metrics`: how the controller is doing, in the text format that Prometheus and its kin read (version 0.0.4).

It is printed by a command over the administration socket: no port listens for it. A collector of text files, such as
node_exporter's, picks it up. Times are in seconds since 1970.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from controller.admin.documents import Documents
from controller.admin.server import Command, Nothing

if TYPE_CHECKING:
    from controller.assembly import Controller


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, and what it belongs to."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """Samples of one kind. `kind` is "gauge" or "counter"."""

    name: str
    kind: str
    meaning: str
    samples: tuple[Sample, ...]


def exposition(metrics: Iterable[Metric]) -> str:
    """The metrics as text; each with its meaning and its type, samples in the order they come."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{_labelled(each.labels)} {each.value!r}" for each in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def _labelled(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def metrics(controller: "Controller") -> dict[str, Command]:
    """The command of this file."""

    async def show(_: Nothing, __: str) -> Documents:
        ends = [
            Sample(
                _seconds(controller.identity.leaf.not_valid_after_utc), {"holder": f"controller/{controller.name.id}"}
            )
        ]
        ends += [
            Sample(_seconds(each.certified_until), {"holder": f"gateway/{each.name}"})
            for each in await controller.registry.listing()
            if each.certified_until is not None
        ]
        ends += [
            Sample(_seconds(each.certified_until), {"holder": f"device/{each.id}", "user": each.user})
            for each in await controller.devices.list()
            if each.revoked_at is None
        ]
        trust = controller.authority.trust
        authorities = [
            Sample(_seconds(each.not_valid_after_utc), {"purpose": purpose, "serial": f"{each.serial_number:x}"})
            for purpose, anchors in trust.anchors.items()
            for each in anchors
        ]
        up = controller.links.connected()
        gateways = [Sample(float(name in up), {"gateway": name}) for name in controller.directory.current.gateways]
        shown = [
            Metric("gloam_certificate_end_seconds", "gauge", "When a certificate ends.", tuple(ends)),
            Metric("gloam_authority_end_seconds", "gauge", "When an intermediate's own ends.", tuple(authorities)),
            Metric("gloam_gateway_up", "gauge", "Whether the gateway has its link.", tuple(gateways)),
            Metric("gloam_sessions", "gauge", "Live sessions.", (Sample(float(len(controller.sessions.live()))),)),
            Metric(
                "gloam_door_total",
                "counter",
                "What became of knocks and connections at the controller's door.",
                tuple(Sample(float(count), {"what": name}) for name, count in controller.door.counters.items()),
            ),
        ]
        return {"text": exposition(shown)}

    return {"metrics": Command(Nothing, show)}


def _seconds(at: datetime) -> float:
    return at.timestamp()
