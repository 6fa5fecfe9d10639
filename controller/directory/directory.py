"""The directory: everything decisions need to know, as it was at one revision. Frozen; replaced whole.

Laws:

1. It is consistent: every name it mentions is in it.
2. A group's ancestors and a user's groups are transitive; a cycle is refused, never followed.
3. The engine in it was made from its own grants and policy files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from controller.decision.engine import PolicyEngine
from controller.decision.facts import Device, Gateway, Grant, Group, Resource, User
from controller.decision.grants import compile_grant
from controller.decision.policies import Policy, read_policy


@dataclass(frozen=True, slots=True)
class Directory:
    """``users`` and ``devices`` by identifier, ``grants`` by the ``@id`` of their policy, the rest by name."""

    revision: int
    users: Mapping[UUID, User]
    groups: Mapping[str, Group]
    devices: Mapping[UUID, Device]
    gateways: Mapping[str, Gateway]
    resources: Mapping[str, Resource]
    grants: Mapping[str, Grant]
    engine: PolicyEngine
    names: Mapping[str, UUID]

    @classmethod
    def of(
        cls,
        *,
        revision: int = 0,
        users: Iterable[User] = (),
        groups: Iterable[Group] = (),
        devices: Iterable[Device] = (),
        gateways: Iterable[Gateway] = (),
        resources: Iterable[Resource] = (),
        grants: Iterable[Grant] = (),
        policies: Sequence[Policy] = (),
        problem: str = "",
    ) -> "Directory":
        """The directory of these, with its engine. Raises PoliciesInvalid if its policies cannot be together.

        With a `problem` (policies that cannot be used) everything is denied until it is solved.
        """
        users, groups, resources, grants = tuple(users), tuple(groups), tuple(resources), tuple(grants)
        compiled = (read_policy(compile_grant(grant)) for grant in grants)
        return cls(
            revision=revision,
            users={user.id: user for user in users},
            groups={group.name: group for group in groups},
            devices={device.id: device for device in devices},
            gateways={gateway.name: gateway for gateway in gateways},
            resources={resource.name: resource for resource in resources},
            grants={grant.policy_id: grant for grant in grants},
            engine=PolicyEngine(
                (*compiled, *policies), users=users, groups=groups, resources=resources, problem=problem
            ),
            names={user.name: user.id for user in users},
        )

    def user_named(self, name: str) -> User | None:
        """The person of that name."""
        identifier = self.names.get(name)
        return None if identifier is None else self.users[identifier]

    def served_by(self, gateway: str) -> tuple[Resource, ...] | None:
        """The resources a gateway serves, by name; None if there is no such gateway."""
        if gateway not in self.gateways:
            return None
        return tuple(
            self.resources[name] for name in sorted(self.resources) if gateway in self.resources[name].gateways
        )

    def grants_for(self, user: User, resource: Resource) -> list[Grant]:
        """The grants about this person and this resource, whatever their conditions say."""
        policies = self.engine.slice(user, resource).policies
        return [self.grants[policy.id] for policy in policies if policy.id in self.grants]


class CycleError(ValueError):
    """Groups that would be in themselves."""


def ancestors(parents: Mapping[str, str | None]) -> dict[str, frozenset[str]]:
    """For each group (name → name of the group it is in) all groups it is in. Raises :class:`CycleError`."""
    found: dict[str, frozenset[str]] = {}
    for name in parents:
        path: list[str] = []
        at: str | None = name
        while at is not None and at not in found:
            if at in path:
                raise CycleError(" → ".join((*path, at)))
            path.append(at)
            at = parents[at]
        above = frozenset[str]() if at is None else found[at] | {at}
        for each in reversed(path):
            found[each] = above
            above |= {each}
    return found
