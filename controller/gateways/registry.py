"""The register of gateways: which there are, and where. Whether they are connected is link.py's to say.

Laws:

1. A gateway is registered first and enrolled later, by the invite made for it.
2. A gateway that some resource has no other of is not removed: that resource would silently be gone.
3. Clients are told an address they can connect to: never a wildcard.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from uuid import UUID, uuid4

from sqlalchemy import delete, select

from console.address import HostPort
from controller.directory.lookup import find, label, must_be_new
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.resources.target import parse_reachable
from controller.storage import Storage
from controller.storage.models import Gateway, Invite, Resource, ResourceGateway


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A gateway as administrators see it, its link aside."""

    id: UUID
    name: str
    tunnel: str
    knock: str
    advertise: str
    resources: tuple[str, ...]
    enrolled_at: datetime | None
    certified_until: datetime | None  # the later end, during a renewal


class GatewayRegistry:
    """What administrators do with gateways; every change is in force when its call returns."""

    def __init__(self, storage: Storage, directory: DirectoryService, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._directory = directory
        self._clock = clock

    async def add(self, name: str, tunnel: str, knock: str, advertise: str | None = None, *, actor: str) -> UUID:
        """A new gateway, listening at ``tunnel`` (TCP) and ``knock`` (UDP), known to clients as ``advertise``.

        Raises Refused: bad_name, exists, bad_address, address_taken.
        """
        label(name, "gateway")
        listen = parse_reachable(tunnel, "tunnel", "bad_address")
        knocks = parse_reachable(knock, "knock", "bad_address")
        told = listen if advertise is None else parse_reachable(advertise, "advertised", "bad_address")
        if _is_wildcard(told):
            raise Refused(
                "bad_address", f"clients cannot connect to {told}", "say where they can: --advertise HOST:PORT"
            )
        async with self._directory.change(actor) as change:
            await must_be_new(change.db, Gateway, name, "gateway")
            same = Gateway.listen == str(listen), Gateway.knock == str(knocks), Gateway.advertise == str(told)
            if other := await change.db.scalar(select(Gateway.name).where(*same)):
                fix = f"name its own, or remove that one first: gloam-controller gateway remove {other}"
                raise Refused("address_taken", f"gateway {other} has these addresses", fix)
            gateway = Gateway(
                id=uuid4(),
                name=name,
                listen=str(listen),
                knock=str(knocks),
                advertise=str(told),
                created_at=self._clock(),
            )
            change.db.add(gateway)
            change.record("gateway.added", f"{name}: tunnels at {listen}, knocks at {knocks}, advertised as {told}")
        return gateway.id

    async def listing(self) -> list[GatewayView]:
        """Every gateway, by name."""
        async with self._storage.read() as db:
            serves: defaultdict[UUID, list[str]] = defaultdict(list)
            pairs = select(ResourceGateway.gateway_id, Resource.name)
            pairs = pairs.join(Resource, Resource.id == ResourceGateway.resource_id).order_by(Resource.name)
            for gateway_id, resource in await db.execute(pairs):
                serves[gateway_id].append(resource)
            rows = list(await db.scalars(select(Gateway).order_by(Gateway.name)))
        return [
            GatewayView(
                id=row.id,
                name=row.name,
                tunnel=row.listen,
                knock=row.knock,
                advertise=row.advertise,
                resources=tuple(serves.get(row.id, ())),
                enrolled_at=row.enrolled_at,
                certified_until=row.next_certified_until or row.certified_until,
            )
            for row in rows
        ]

    async def remove(self, name: str, *, actor: str) -> UUID:
        """Removes a gateway and its invites. Raises Refused: not_found, in_use (law 2)."""
        async with self._directory.change(actor) as change:
            gateway = await find(change.db, Gateway, name, "gateway")
            mine = select(ResourceGateway.resource_id).where(ResourceGateway.gateway_id == gateway.id)
            others = select(ResourceGateway.resource_id).where(ResourceGateway.gateway_id != gateway.id)
            only = (
                select(Resource.name).where(Resource.id.in_(mine), Resource.id.not_in(others)).order_by(Resource.name)
            )
            orphans = list(await change.db.scalars(only))
            if orphans:
                what = f"{name} is the only gateway of {', '.join(orphans)}"
                raise Refused("in_use", what, "remove these first: gloam-controller resource remove NAME")
            await change.db.execute(delete(ResourceGateway).where(ResourceGateway.gateway_id == gateway.id))
            await change.db.execute(delete(Invite).where(Invite.gateway_id == gateway.id))
            await change.db.delete(gateway)
            change.record("gateway.removed", name)
        return gateway.id


def _is_wildcard(address: HostPort) -> bool:
    try:
        return ip_address(address.host).is_unspecified
    except ValueError:
        return False
