"""Administrators' services over a storage, for tests."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import select

from controller.directory import DirectoryService
from controller.gateways.registry import GatewayRegistry
from controller.policies import GrantService, PolicyService
from controller.resources import ResourceService
from controller.storage import Storage
from controller.storage.models import AuditRecord
from controller.users import UserService

NOW = datetime(2026, 1, 7, 10, 0, tzinfo=UTC)


async def hashed(password: str, _name: str) -> str:
    return f"hashed:{len(password)}"


@dataclass
class Office:
    """All services; `now` is what their clock says."""

    storage: Storage
    directory: DirectoryService
    now: datetime = NOW

    @classmethod
    async def open(cls, storage: Storage) -> Self:
        office = cls(storage, DirectoryService(storage))
        await office.directory.reload()
        clock = lambda: office.now  # noqa: E731
        office.users = UserService(storage, office.directory, hashed, clock)
        office.resources = ResourceService(storage, office.directory, clock)
        office.gateways = GatewayRegistry(storage, office.directory, clock)
        office.grants = GrantService(office.directory, clock)
        office.policies = PolicyService(storage, office.directory, clock)
        return office

    async def furnish(self) -> Self:
        """A gateway, a group, a user and a resource."""
        await self.gateways.add("edge", "127.0.0.1:8443", "127.0.0.1:62201", actor="admin/0")
        await self.users.add_group("staff", actor="admin/0")
        await self.users.add("alice", "secret", ["staff"], actor="admin/0")
        await self.resources.add("wiki", ["edge"], "10.0.0.5:80", segment="office", actor="admin/0")
        return self

    async def recorded(self) -> list[str]:
        """The audit records of changes, as JSON."""
        async with self.storage.read() as db:
            query = select(AuditRecord.event).where(AuditRecord.kind == "change.made").order_by(AuditRecord.seq)
            return list(await db.scalars(query))
