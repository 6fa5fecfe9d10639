"""The policy engine: Cedar behind the guards that measured.md asks for.

Laws:

1. Policies, entities and schema are parsed once; the engine is replaced whole, never changed.
2. Every policy was valid by the schema alone, and all of them are again together; every request is checked too.
3. Cedar skips a policy that errors. So any error is a refusal, and so is anything but Allow.
4. An engine that could not be made of the policies there are says no to everything (`problem` says why).
5. Cedar is asked about exactly the policies whose scope holds: a policy whose scope does not hold is, by Cedar's own
   semantics, neither satisfied nor an error. With none left the answer is no, without asking.
6. Policies are named by ``@id``, which is unique.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cedarpy import Entities, PolicySet, is_authorized, validate_policies

from controller.decision.facts import Context, Group, Resource, User
from controller.decision.hours import Hours
from controller.decision.policies import Policy, Uid
from controller.decision.schema import ACTION, SCHEMA

MOST_SLICES: Final = 4_096  # parsed sets kept; each is some kilobytes
MOST_VERDICTS: Final = 65_536  # answers kept that no clock can change
_CLOCKS: Final = frozenset({"now", "mfa_age_seconds", "session_age_seconds"})


class PoliciesInvalid(ValueError):  # noqa: N818 - reads as what it is
    """Policies that cannot be in force together."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Cedar said: the policies that decided (permits if allowed, else forbids), and what went wrong."""

    allowed: bool
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


NOTHING_APPLIES: Final = Verdict(allowed=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """The policies whose scope holds for one user and one resource."""

    policies: tuple[Policy, ...]
    handle: PolicySet
    windows: Mapping[str, Hours]
    reads: frozenset[str]


class PolicyEngine:
    """Policies and the entities they speak of."""

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        users: Iterable[User],
        groups: Iterable[Group],
        resources: Iterable[Resource],
        problem: str = "",
    ) -> None:
        self.problem = problem
        self.policies: dict[str, Policy] = {}
        for policy in policies:
            if policy.id in self.policies:
                raise PoliciesInvalid(f"two policies have the @id {policy.id}")
            self.policies[policy.id] = policy
        text = "\n".join(policy.text for policy in self.policies.values())
        if errors := validate_policies(text, SCHEMA).errors:
            raise PoliciesInvalid("; ".join(str(error) for error in errors))
        self._entities = Entities.from_json_str(json.dumps(_entities(users, groups, resources)), SCHEMA)
        self._by_resource: dict[Uid | None, list[Policy]] = {}
        for policy in self.policies.values():
            self._by_resource.setdefault(policy.resource.uid, []).append(policy)
        self._slices: dict[tuple[str, ...], Slice] = {}
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}

    def slice(self, user: User, resource: Resource) -> Slice:
        """The policies whose scope holds for ``user`` and ``resource``, ready to be asked."""
        who, whose = ("User", user.name), _uids("User", user.name, "Group", user.groups)
        segments = () if resource.segment is None else (resource.segment,)
        what, where = ("Resource", resource.name), _uids("Resource", resource.name, "Segment", segments)
        found = [
            policy
            for key in (None, *sorted(where))
            for policy in self._by_resource.get(key, ())
            if policy.resource.holds(what, where) and policy.principal.holds(who, whose)
        ]
        key = tuple(policy.id for policy in found)
        known = self._slices.get(key)
        if known is None:
            if len(self._slices) >= MOST_SLICES:
                self._slices.clear()
            known = self._slices[key] = _slice(found)
        return known

    def policies_of(self, user: User) -> list[Policy]:
        """Every policy whose principal's scope holds for ``user``, on whatever resource."""
        who, whose = ("User", user.name), _uids("User", user.name, "Group", user.groups)
        return [policy for policy in self.policies.values() if policy.principal.holds(who, whose)]

    def verdict(self, user: User, resource: Resource, context: Context, *, all_open: bool = False) -> Verdict:
        """What the policies say of ``user`` reaching ``resource``; ``all_open`` supposes that all hours are open."""
        if self.problem:
            return Verdict(allowed=False, errors=(self.problem,))
        applicable = self.slice(user, resource)
        if not applicable.policies:
            return NOTHING_APPLIES
        attributes: dict[str, Any] = context.as_cedar()
        attributes["open_windows"] = _open(applicable.windows, None if all_open else context.now)
        if applicable.reads & _CLOCKS:
            return self._ask(applicable, user, resource, attributes)
        used = json.dumps([attributes[name] for name in sorted(applicable.reads)])
        key = (user.name, resource.name, used)
        known = self._verdicts.get(key)
        if known is None:
            if len(self._verdicts) >= MOST_VERDICTS:
                self._verdicts.clear()
            known = self._verdicts[key] = self._ask(applicable, user, resource, attributes)
        return known

    def _ask(self, applicable: Slice, user: User, resource: Resource, context: dict[str, Any]) -> Verdict:
        request = {
            "principal": {"type": "User", "id": user.name},
            "action": {"type": "Action", "id": ACTION},
            "resource": {"type": "Resource", "id": resource.name},
            "context": context,
        }
        result = is_authorized(request, applicable.handle, self._entities, SCHEMA)
        names = result.diagnostics.id_annotations_by_reason
        unnamed = [reason for reason in result.diagnostics.reasons if not names.get(reason)]
        errors = (
            *(_named(each, applicable) for each in result.diagnostics.errors),
            *(f"no @id: {each}" for each in unnamed),
        )
        policies = tuple(sorted(names.get(reason, reason) for reason in result.diagnostics.reasons))
        return Verdict(result.allowed and not errors, policies, errors)


def _slice(policies: list[Policy]) -> Slice:
    return Slice(
        policies=tuple(policies),
        handle=PolicySet.from_str("\n".join(policy.text for policy in policies)),
        windows={text: hours for policy in policies for text, hours in policy.windows.items()},
        reads=frozenset[str]().union(*(policy.reads for policy in policies)),
    )


def _named(error: str, applicable: Slice) -> str:
    """``error`` with the policy it names by position (Cedar's ``policy59``) named by ``@id``."""
    ids = [policy.id for policy in applicable.policies]
    return re.sub(r"`policy(\d+)`", lambda match: ids[int(match[1])] if int(match[1]) < len(ids) else match[0], error)


def _open(windows: Mapping[str, Hours], now: datetime | None) -> list[str]:
    return sorted(text for text, hours in windows.items() if now is None or hours.is_open(now))


def _uids(own_type: str, own: str, parent_type: str, parents: Iterable[str]) -> frozenset[Uid]:
    return frozenset({(own_type, own), *((parent_type, parent) for parent in parents)})


def _entities(users: Iterable[User], groups: Iterable[Group], resources: Iterable[Resource]) -> list[dict[str, Any]]:
    resources = list(resources)
    found = [
        _entity("Group", group.name, [("Group", parent) for parent in sorted(group.ancestors)]) for group in groups
    ]
    found += [
        _entity("User", user.name, [("Group", group) for group in sorted(user.groups)], {"name": user.name})
        for user in users
    ]
    found += [_entity("Segment", name, []) for name in sorted({each.segment for each in resources if each.segment})]
    for each in resources:
        parents = [] if each.segment is None else [("Segment", each.segment)]
        attributes = {"name": each.name, "protocol": each.protocol, "port": each.port}
        found.append(_entity("Resource", each.name, parents, attributes))
    return found


def _entity(kind: str, name: str, parents: list[Uid], attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "uid": {"type": kind, "id": name},
        "attrs": attributes or {},
        "parents": [{"type": parent, "id": identifier} for parent, identifier in parents],
    }
