"""From rows to the directory, all in one view of the database.

Law: stored policies that this version cannot use deny everything, with the reason; they are never left out, for one of
them may forbid something.
"""

from collections import defaultdict
from datetime import timedelta
from typing import Final, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from console.address import HostPort
from controller.decision.check import PolicyFile, check_files
from controller.decision.facts import Device, Gateway, Grant, Group, Protocol, Resource, User
from controller.decision.hours import Hours
from controller.directory.directory import Directory, ancestors
from controller.storage import models

REVISION: Final = "revision"


async def load(db: AsyncSession) -> Directory:
    """The directory as ``db`` sees it. Raises PoliciesInvalid or CycleError if it contradicts itself."""
    groups = await _groups(db)
    names = {group.id: group.name for group in groups}
    users = await _users(db, {group.name: group for group in groups}, names)
    gateways = [_gateway(row) for row in await db.scalars(select(models.Gateway).order_by(models.Gateway.name))]
    resources = await _resources(db, {gateway.id: gateway.name for gateway in gateways})
    files = await db.scalars(select(models.Policy).order_by(models.Policy.name))
    checked = check_files(PolicyFile(row.name, row.text) for row in files)
    wrong = [f"{each.file}:{each.line}:{each.column}: {each.what}" for each in checked.problems]
    return Directory.of(
        revision=await stored_revision(db),
        users=users,
        groups=groups,
        devices=[_device(row) for row in await db.scalars(select(models.Device))],
        gateways=gateways,
        resources=resources,
        grants=await _grants(
            db,
            users={user.id: user.name for user in users},
            groups=names,
            resources={resource.id: resource.name for resource in resources},
        ),
        policies=() if wrong else tuple(each.policy for each in checked.policies),
        problem="; ".join(wrong),
    )


async def stored_revision(db: AsyncSession) -> int:
    """How many changes there have been to what decisions depend on."""
    value = await db.scalar(select(models.Setting.value).where(models.Setting.key == REVISION))
    return 0 if value is None else int(value)


async def _groups(db: AsyncSession) -> list[Group]:
    rows = list(await db.scalars(select(models.Group).order_by(models.Group.name)))
    names = {row.id: row.name for row in rows}
    parents = {row.name: None if row.parent_id is None else names[row.parent_id] for row in rows}
    above = ancestors(parents)
    return [Group(row.id, row.name, parents[row.name], above[row.name]) for row in rows]


async def _users(db: AsyncSession, groups: dict[str, Group], names: dict[UUID, str]) -> list[User]:
    member: defaultdict[UUID, set[str]] = defaultdict(set)
    for user_id, group_id in await db.execute(select(models.Membership.user_id, models.Membership.group_id)):
        group = groups[names[group_id]]
        member[user_id] |= {group.name, *group.ancestors}
    given = select(models.FederatedMembership.user_id, models.FederatedMembership.group_id)
    for user_id, group_id in await db.execute(given):
        group = groups[names[group_id]]
        member[user_id] |= {group.name, *group.ancestors}
    rows = await db.scalars(select(models.User).order_by(models.User.name))
    return [User(row.id, row.name, row.disabled_at, frozenset(member.get(row.id, ()))) for row in rows]


async def _resources(db: AsyncSession, gateways: dict[UUID, str]) -> list[Resource]:
    serving: defaultdict[UUID, list[str]] = defaultdict(list)
    pairs = select(models.ResourceGateway.resource_id, models.ResourceGateway.gateway_id)
    for resource_id, gateway_id in await db.execute(pairs):
        serving[resource_id].append(gateways[gateway_id])
    rows = await db.scalars(select(models.Resource).order_by(models.Resource.name))
    return [_resource(row, tuple(sorted(serving.get(row.id, ())))) for row in rows]


async def _grants(
    db: AsyncSession, *, users: dict[UUID, str], groups: dict[UUID, str], resources: dict[UUID, str]
) -> list[Grant]:
    rows = await db.scalars(select(models.Grant).order_by(models.Grant.created_at, models.Grant.id))
    return [
        Grant(
            id=row.id,
            group=None if row.group_id is None else groups[row.group_id],
            user=None if row.user_id is None else users[row.user_id],
            resource=None if row.resource_id is None else resources[row.resource_id],
            segment=row.segment,
            hours=None if row.hours is None else Hours.parse(row.hours),
            mfa_within=None if row.mfa_within_seconds is None else timedelta(seconds=row.mfa_within_seconds),
            expires_at=row.expires_at,
            reason=row.reason or "",
        )
        for row in rows
    ]


def _resource(row: models.Resource, gateways: tuple[str, ...]) -> Resource:
    return Resource(
        id=row.id,
        name=row.name,
        target=HostPort.parse(row.target),
        port=row.port,
        protocol=cast("Protocol", row.protocol),
        segment=row.segment,
        gateways=gateways,
    )


def _gateway(row: models.Gateway) -> Gateway:
    return Gateway(
        id=row.id,
        name=row.name,
        listen=HostPort.parse(row.listen),
        knock=HostPort.parse(row.knock),
        advertise=HostPort.parse(row.advertise),
        enrolled_at=row.enrolled_at,
    )


def _device(row: models.Device) -> Device:
    return Device(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        platform=row.platform,
        approved_at=row.approved_at,
        revoked_at=row.revoked_at,
    )
