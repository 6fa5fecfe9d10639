"""Resources: add, list, remove.

Laws:

1. A resource is served by at least one gateway, and reached by nobody until a grant or a policy says so.
2. Removing a resource removes the grants that name it: a new resource of that name begins with none.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import delete, select

from console.address import HIGHEST_PORT
from controller.directory.lookup import find, label, must_be_new
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.resources.target import parse_target
from controller.storage import Storage
from controller.storage.models import Gateway, Grant, Resource, ResourceGateway

MOST_GATEWAYS: Final = 64  # as the session's message to clients allows


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A resource as administrators see it."""

    id: UUID
    name: str
    port: int
    protocol: str
    target: str
    segment: str | None
    gateways: tuple[str, ...]


class ResourceService:
    """What administrators do with resources; every change is in force when its call returns."""

    def __init__(self, storage: Storage, directory: DirectoryService, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._directory = directory
        self._clock = clock

    async def add(
        self,
        name: str,
        gateways: Sequence[str],
        target: str,
        *,
        port: int | None = None,
        protocol: str | None = None,
        segment: str | None = None,
        actor: str,
    ) -> UUID:
        """A new resource; ``port`` is what clients name, else the target's.

        Raises Refused: bad_name, exists, not_found (a gateway), bad_target, bad_protocol, bad_port, bad_gateways.
        """
        label(name, "resource")
        if segment is not None:
            label(segment, "segment")
        parsed = parse_target(target, protocol)
        named = parsed.address.port if port is None else port
        if not 1 <= named <= HIGHEST_PORT:
            raise Refused("bad_port", f"{named} is not a port", f"name one from 1 to {HIGHEST_PORT}")
        if not 1 <= len(set(gateways)) <= MOST_GATEWAYS:
            raise Refused("bad_gateways", f"a resource has 1 to {MOST_GATEWAYS} gateways", "name one: --gateway NAME")
        async with self._directory.change(actor) as change:
            await must_be_new(change.db, Resource, name, "resource")
            served = [(await find(change.db, Gateway, each, "gateway")).id for each in sorted(set(gateways))]
            resource = Resource(
                id=uuid4(),
                name=name,
                target=str(parsed.address),
                port=named,
                protocol=parsed.protocol,
                segment=segment,
                created_at=self._clock(),
            )
            change.db.add(resource)
            await change.db.flush()
            change.db.add_all([ResourceGateway(resource_id=resource.id, gateway_id=each) for each in served])
            where = f"{parsed.address} by {', '.join(sorted(set(gateways)))}"
            change.record(
                "resource.added", f"{name}, port {named}/{parsed.protocol}: {where}; segment: {segment or 'none'}"
            )
        return resource.id

    async def listing(self) -> list[ResourceView]:
        """Every resource, by name."""
        async with self._storage.read() as db:
            serving: defaultdict[UUID, list[str]] = defaultdict(list)
            pairs = select(ResourceGateway.resource_id, Gateway.name)
            pairs = pairs.join(Gateway, Gateway.id == ResourceGateway.gateway_id).order_by(Gateway.name)
            for resource_id, gateway in await db.execute(pairs):
                serving[resource_id].append(gateway)
            rows = list(await db.scalars(select(Resource).order_by(Resource.name)))
        return [
            ResourceView(
                id=row.id,
                name=row.name,
                port=row.port,
                protocol=row.protocol,
                target=row.target,
                segment=row.segment,
                gateways=tuple(serving.get(row.id, ())),
            )
            for row in rows
        ]

    async def remove(self, name: str, *, actor: str) -> tuple[UUID, ...]:
        """Removes a resource and the grants that name it, which are returned. Raises Refused: not_found."""
        async with self._directory.change(actor) as change:
            resource = await find(change.db, Resource, name, "resource")
            grants = tuple(await change.db.scalars(select(Grant.id).where(Grant.resource_id == resource.id)))
            await change.db.execute(delete(Grant).where(Grant.resource_id == resource.id))
            await change.db.execute(delete(ResourceGateway).where(ResourceGateway.resource_id == resource.id))
            await change.db.delete(resource)
            change.record("resource.removed", f"{name}; grants removed: {', '.join(map(str, grants)) or 'none'}")
        return grants
