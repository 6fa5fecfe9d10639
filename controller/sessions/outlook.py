"""What a session may reach now: the decisions, as leases for gateways and as a view for the person.

Laws:

1. A gateway gets a lease only if it serves something the session may reach, or is refused for a reason worth telling.
   Its knock keys are derived for it alone.
2. An answer of the same kind and code, by the same policies, is the same answer: its sentence, which may speak of ages
   and times of day, is not told anew.
3. A person learns of a resource only if some policy is there to let them in, whatever its conditions say now: the names
   of everything else are nobody's business, and asking for one gives the same answer as asking for nonsense.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from certs.names import Name, NameKind
from certs.secret import Secret
from controller.decision import Allow, Answer, Deny, SessionFacts, decide, standing
from controller.decision.facts import Gateway, Resource
from controller.directory.directory import Directory
from controller.sessions.rules import LiveSession, Outlook
from spa.packet import derive_key
from wire.messages import Address, Denial, GatewayAddress, Lease, Permit, ResourceView

_NOTHING: Final = frozenset({"no_grant", "resource_unknown"})
SHUT_OUT: Final = frozenset({"user_unknown", "user_disabled", "device_unknown", "device_revoked"})
"""Standings that end a session; a device that waits for approval keeps it, with nothing to reach."""


def make(
    directory: Directory, session: LiveSession, knock_secrets: Sequence[Secret], domain: str, now: datetime
) -> Outlook:
    """The outlook of `session` by `directory` at `now`; `knock_secrets` are its device's, the newest first."""
    facts = facts_of(session)
    answers = {
        name: answer
        for name in sorted(directory.resources)
        if _concerns(directory, session, directory.resources[name])
        and (answer := _settled(session, name, decide(directory, facts, name, now))).code not in _NOTHING
    }
    allowed = [directory.resources[name] for name, answer in answers.items() if isinstance(answer, Allow)]
    reachable = {name for resource in allowed for name in _served_by(directory, resource)}
    concerned = {name for each in answers for name in _served_by(directory, directory.resources[each])}
    return Outlook(
        leases={
            name: _lease(directory, session, name, answers, _knock_keys(knock_secrets, domain, name))
            for name in sorted(concerned)
        },
        resources=tuple(_view(directory, directory.resources[name], answer) for name, answer in answers.items()),
        gateways=tuple(_address(directory.gateways[name]) for name in sorted(reachable)),
        answers=answers,
    )


def explain(directory: Directory, session: LiveSession, name: str, now: datetime) -> tuple[ResourceView, Answer]:
    """What the person is told about a resource of that name, which need not be one, and the true answer."""
    answer = decide(directory, facts_of(session), name, now)
    resource = directory.resources.get(name)
    if resource is not None and answer.code not in _NOTHING and _concerns(directory, session, resource):
        return _view(directory, resource, answer), answer
    told = Deny("no_grant", f"No grant lets you reach {name}.", f"ask an administrator for a grant on {name}")
    view = ResourceView(
        name=name,
        port=1,
        protocol="tcp",
        gateways=(),
        allowed=False,
        code=told.code,
        sentence=told.sentence,
        fix=told.fix,
    )
    return view, answer


def why_shut_out(directory: Directory, session: LiveSession) -> Deny | None:
    """Why the session may not live on, or None."""
    denial = standing(directory, session.user_id, session.device_id)
    return denial if denial is not None and denial.code in SHUT_OUT else None


def facts_of(session: LiveSession) -> SessionFacts:
    """What the session contributes to decisions."""
    return SessionFacts(
        user_id=session.user_id,
        device_id=session.device_id,
        mfa_at=session.mfa_at,
        methods=session.methods,
        source=session.source,
        started_at=session.started_at,
    )


def _settled(session: LiveSession, resource: str, answer: Answer) -> Answer:
    """The answer told before, if this one is the same (law 2)."""
    before = session.outlook.answers.get(resource)
    if before is not None and (before.kind, before.code, before.policies) == (
        answer.kind,
        answer.code,
        answer.policies,
    ):
        return before
    return answer


def _concerns(directory: Directory, session: LiveSession, resource: Resource) -> bool:
    """Is there a policy to let this person reach this resource, conditions aside (law 3)?"""
    user = directory.users.get(session.user_id)
    if user is None:
        return False
    return any(policy.effect == "permit" for policy in directory.engine.slice(user, resource).policies)


def _served_by(directory: Directory, resource: Resource) -> list[str]:
    """The gateways that serve `resource` and have joined, in its order."""
    joined = (directory.gateways.get(name) for name in resource.gateways)
    return [gateway.name for gateway in joined if gateway is not None and gateway.enrolled_at is not None]


def _lease(
    directory: Directory,
    session: LiveSession,
    gateway: str,
    answers: Mapping[str, Answer],
    knock_keys: tuple[bytes, ...],
) -> Lease:
    served = [(directory.resources[each], answer) for each, answer in answers.items()]
    served = [(resource, answer) for resource, answer in served if gateway in resource.gateways]
    return Lease(
        session=session.id,
        device=session.device_id,
        user=session.user,
        knock_keys=knock_keys,
        permits=tuple(
            Permit(
                resource=resource.name,
                port=resource.port,
                target=Address(host=resource.target.host, port=resource.target.port),
                protocol=resource.protocol,
                policies=answer.policies,
            )
            for resource, answer in served
            if isinstance(answer, Allow)
        ),
        denials=tuple(
            Denial(resource=resource.name, code=answer.code, sentence=answer.sentence, fix=answer.fix)
            for resource, answer in served
            if not isinstance(answer, Allow)
        ),
        valid_until=session.valid_until,
        policy_revision=directory.revision,
        addresses=(session.seen_at,) if session.seen_at else (),
    )


def _view(directory: Directory, resource: Resource, answer: Answer) -> ResourceView:
    return ResourceView(
        name=resource.name,
        port=resource.port,
        protocol=resource.protocol,
        gateways=tuple(_served_by(directory, resource)),
        allowed=isinstance(answer, Allow),
        code=answer.code,
        sentence=answer.sentence,
        fix=answer.fix,
    )


def _address(gateway: Gateway) -> GatewayAddress:
    """Clients knock where they connect to: at the advertised host (storage/models.py)."""
    tls, knock = gateway.advertise, gateway.knock
    return GatewayAddress(
        name=gateway.name,
        tls=Address(host=tls.host, port=tls.port),
        knock=Address(host=tls.host, port=knock.port),
    )


def _knock_keys(secrets: Sequence[Secret], domain: str, gateway: str) -> tuple[bytes, ...]:
    server = Name(domain, NameKind.GATEWAY, gateway)
    return tuple(derive_key(secret, server).to_bytes() for secret in secrets)
