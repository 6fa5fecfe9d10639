"""From what a gateway reports to what the audit log keeps.

1. A gateway reports identifiers; who they were, and by which policy they were let in, is added here, from the leases
   and the tunnels this controller knows, never from the gateway.
2. What a gateway can make us remember is bounded. What was forgotten is audited without names rather than not at all.
"""

from collections import OrderedDict
from typing import assert_never
from uuid import UUID

from controller.audit import events
from wire.messages import (
    Address,
    CloakTrouble,
    HandshakeRefused,
    KnockRefused,
    Lease,
    Report,
    TunnelClosed,
    TunnelOpened,
    TunnelRefused,
)

REMEMBERED = 65_536
"""Leases and open tunnels remembered for a gateway's reports, each; a gateway holds 10,000 tunnels at most."""


class Remembered:
    """What is needed to name those one gateway reports about."""

    def __init__(self, gateway: str, capacity: int = REMEMBERED) -> None:
        self.gateway = gateway
        self._capacity = capacity
        self._leases: OrderedDict[UUID, Lease] = OrderedDict()  # ended ones too: their tunnels' ends are reported later
        self._tunnels: OrderedDict[UUID, events.TunnelOpened] = OrderedDict()

    @property
    def tunnels(self) -> int:
        """Tunnels reported open and not closed."""
        return len(self._tunnels)

    def lease(self, lease: Lease) -> None:
        """The gateway was given this lease."""
        self._leases[lease.session] = lease
        self._leases.move_to_end(lease.session)
        if len(self._leases) > self._capacity:
            self._leases.popitem(last=False)

    def restarted(self) -> None:
        """The gateway came back as a new process: the tunnels of the old one are gone and nobody will report them."""
        self._tunnels.clear()

    def event(self, report: Report) -> events.Event:
        """The audit event of a report."""
        match report:
            case TunnelOpened():
                return self._opened(report)
            case TunnelClosed():
                return self._closed(report)
            case TunnelRefused():
                lease = self._leases.get(report.session) if report.session else None
                return events.TunnelRefused(
                    gateway=self.gateway,
                    session=report.session,
                    user=lease.user if lease else "",
                    device=lease.device if lease else None,
                    source=_text(report.source),
                    resource=report.resource,
                    status=report.status,
                    code=report.code,
                    reported_at=report.at,
                )
            case HandshakeRefused():
                return events.HandshakeRefused(
                    where=f"gateway/{self.gateway}",
                    source=_text(report.source),
                    code=report.code,
                    detail=report.detail,
                    reported_at=report.at,
                )
            case KnockRefused():
                return events.KnockRefused(
                    where=f"gateway/{self.gateway}",
                    key_id=report.key_id,
                    source=report.source,
                    code=report.code,
                    count=report.count,
                    reported_at=report.at,
                )
            case CloakTrouble():
                return events.CloakTrouble(
                    where=f"gateway/{self.gateway}",
                    code=report.code,
                    detail=report.detail,
                    count=report.count,
                    reported_at=report.at,
                )
            case _:
                assert_never(report)

    def _opened(self, report: TunnelOpened) -> events.TunnelOpened:
        lease = self._leases.get(report.session)
        permits = [permit for permit in (lease.permits if lease else ()) if permit.resource == report.resource]
        event = events.TunnelOpened(
            gateway=self.gateway,
            tunnel=report.tunnel,
            session=report.session,
            user=lease.user if lease else "",
            device=lease.device if lease else None,
            source=_text(report.source),
            resource=report.resource,
            target=_text(report.target),
            policies=tuple(dict.fromkeys(policy for permit in permits for policy in permit.policies)),
            group=report.group,
            protocol=report.protocol,
            reported_at=report.at,
        )
        self._tunnels[report.tunnel] = event
        if len(self._tunnels) > self._capacity:
            self._tunnels.popitem(last=False)
        return event

    def _closed(self, report: TunnelClosed) -> events.TunnelClosed:
        opened = self._tunnels.pop(report.tunnel, None)
        lease = self._leases.get(report.session)
        return events.TunnelClosed(
            gateway=self.gateway,
            tunnel=report.tunnel,
            session=report.session,
            user=opened.user if opened else lease.user if lease else "",
            device=opened.device if opened else lease.device if lease else None,
            source=opened.source if opened else "",
            resource=report.resource,
            target=opened.target if opened else "",
            protocol=opened.protocol if opened else "",
            policies=opened.policies if opened else (),
            bytes_up=report.bytes_up,
            bytes_down=report.bytes_down,
            seconds=report.seconds,
            code=report.reason,
            dropped=report.dropped,
            reported_at=report.at,
        )


def _text(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
