"""A session as its device sees it: what it may reach, through whom, and when it must be renewed.

Laws:

1. Nothing is decided here: the view comes from the controller, and a denial is repeated with its sentence and its fix.
2. A resource is asked for by name; a port that is not the resource's is a mistake of the asker, not a denial.
3. Gateways come in the order of the resource, those that do not have the lease yet last.
4. A session is renewed halfway between receiving a certificate and its end, so one lost attempt costs nothing.
"""

import difflib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from wire.messages import Code, GatewayAddress, ResourceView, SessionView

Carried = Literal["tcp", "udp"]
"""What a tunnel carries: bytes or datagrams."""

FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 15.0
"""Seconds between attempts to reach the controller: a blip costs a quarter second, an outage little traffic."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a resource: the gateways to try, in order."""

    resource: ResourceView
    gateways: tuple[GatewayAddress, ...]


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Why there is no way to a resource. `denied`: policy says so; otherwise the asking was wrong.

    `code` is the decision's, where the controller gave one.
    """

    denied: bool
    sentence: str
    fix: str
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a person typed: `RESOURCE` or `RESOURCE:PORT`, and `/udp` behind it for datagrams."""

    name: str
    port: int | None = None
    protocol: Carried = "tcp"

    @classmethod
    def parse(cls, text: str) -> "Target | None":
        """The target in `text`, or None where it is not one."""
        where, slash, protocol = text.strip().lower().partition("/")
        name, colon, port = where.partition(":")
        if not name or (colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65_535)):  # noqa: PLR2004
            return None
        if slash and protocol not in {"tcp", "udp"}:
            return None
        return cls(name, int(port) if colon else None, "udp" if protocol == "udp" else "tcp")

    def __str__(self) -> str:
        """As it is typed."""
        where = self.name if self.port is None else f"{self.name}:{self.port}"
        return f"{where}/udp" if self.protocol == "udp" else where


def renewal_due(received: datetime, valid_until: datetime) -> datetime:
    """When to ask for the next certificate, by the controller's clock."""
    return received + max(valid_until - received, timedelta()) / 2


def wait_before(attempt: int, chance: float) -> float:
    """Seconds to wait before connection attempt `attempt` (0 is the first after a loss); `chance` is in [0, 1).

    Full jitter, so that the clients of a controller that restarts do not all come back in one moment.
    """
    ceiling = min(LONGEST_WAIT, FIRST_WAIT * float(1 << min(attempt, 16)))
    return ceiling * (0.5 + chance / 2)


def route(view: SessionView, target: Target) -> Route | NoRoute:
    """The way to `target` in this session, or why there is none."""
    resource = find(view, target.name)
    if resource is None:
        near = difflib.get_close_matches(target.name, [each.name for each in view.resources if each.allowed], 1, 0.6)
        fix = f"did you mean {near[0]}?" if near else "gloam resources lists what you may reach; ask for a grant"
        return NoRoute(denied=True, sentence=f"you may not reach {target.name}, or it does not exist", fix=fix)
    if not resource.allowed:
        return denial(resource)
    if target.port is not None and target.port != resource.port:
        fix = f"ask for {resource.name}:{resource.port}"
        return NoRoute(denied=False, sentence=f"{resource.name} is not reached at port {target.port}", fix=fix)
    addresses = {each.name: each for each in view.gateways}
    names = sorted((name for name in resource.gateways if name in addresses), key=lambda name: name in view.lagging)
    if not names:
        fix = "ask the administrator to assign a gateway that is running"
        return NoRoute(denied=False, sentence=f"no gateway serves {resource.name} at present", fix=fix)
    return Route(resource, tuple(addresses[name] for name in names))


def denial(resource: ResourceView) -> NoRoute:
    """What the controller says about a resource it does not allow."""
    sentence = resource.sentence or f"you may not reach {resource.name}"
    fix = resource.fix or "ask the administrator for a grant"
    return NoRoute(denied=True, sentence=sentence, fix=fix, code=resource.code)


def find(view: SessionView, name: str) -> ResourceView | None:
    """The resource of that name, if the session knows it."""
    return next((each for each in view.resources if each.name == name), None)


def replace_resource(view: SessionView, fresh: ResourceView) -> SessionView:
    """The view with one resource as the controller has just explained it."""
    others = tuple(each for each in view.resources if each.name != fresh.name)
    return view.model_copy(update={"resources": (*others, fresh)})
