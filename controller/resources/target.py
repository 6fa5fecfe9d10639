"""What a gateway dials, as people type it: "10.0.0.5:80", "[fd00::5]:22", "db.internal:5432".

Law: a target has exactly one meaning, and one this version cannot carry is refused when it is written.
"""

from dataclasses import dataclass
from typing import Final

from console.address import BadAddress, HostPort
from controller.decision.facts import Protocol
from controller.errors import Refused

STREAMS: Final = ("tcp", "http")
_UDP_FIX: Final = "name a TCP port; UDP resources come with a later version"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a gateway dials for a resource, and how."""

    address: HostPort
    protocol: Protocol


def parse_target(text: str, protocol: str = "tcp") -> Target:
    """The target ``text`` (HOST:PORT[/udp]) spells. Raises Refused: bad_target, bad_protocol, udp_unsupported."""
    address, slash, suffix = text.partition("/")
    if slash and suffix not in {"udp", "tcp"}:
        raise Refused("bad_target", f"{text[:300]!a} ends in no protocol", "write HOST:PORT or HOST:PORT/udp")
    if suffix == "udp" or protocol == "udp":
        raise Refused("udp_unsupported", "gateways of this version carry TCP only, not UDP", _UDP_FIX)
    if protocol not in STREAMS or (suffix and suffix != protocol):
        raise Refused("bad_protocol", f"{protocol[:16]!a} is not the protocol of {text[:300]!a}", "use tcp or http")
    return Target(parse_reachable(address, "target", "bad_target"), "http" if protocol == "http" else "tcp")


def parse_reachable(text: str, what: str, code: str) -> HostPort:
    """The address ``text`` spells, with a port one can connect to. Raises Refused(code)."""
    try:
        address = HostPort.parse(text)
    except BadAddress as error:
        raise Refused(code, f"the {what} address: {error}", error.fix) from error
    if address.port == 0:
        raise Refused(code, f"the {what} address {text!a} has port 0", "name the port")
    return address
