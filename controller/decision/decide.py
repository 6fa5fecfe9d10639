"""The decision: facts and ``now`` in, an answer out.

Laws:

1. Nothing is allowed unless a policy permits it, no policy forbids it, and nothing went wrong while asking.
2. Who is disabled, and what device is unknown, revoked, waiting or somebody else's, no policy can let in.
3. A step-up is what would be allowed if only the second factor were fresh, or were one that the person can prove as
   well; Cedar itself is asked so.
4. "Outside its hours" is said only with a moment at which the same request is allowed; Cedar is asked about that too.
5. ``explain`` runs the same code as the decision; it only supplies the facts that a session would have.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from console.address import format_duration
from controller.decision.answers import Allow, Answer, Deny, Explanation, StepUp
from controller.decision.engine import Verdict
from controller.decision.facts import Context, Device, Grant, Resource, SessionFacts, User
from controller.decision.hours import DAYS

if TYPE_CHECKING:
    from controller.directory.directory import Directory

USUAL: Final = frozenset({"mfa", "otp", "pwd"})  # what explanations suppose: a password and a code
STRONGER: Final = (
    ("webauthn", "passkey_missing", "a passkey", "gloam login --step-up --passkey"),
    ("otp", "method_missing", "a code of your authenticator", "gloam login --step-up"),
)
"""Methods a policy may insist on and a person can add to a session: the name, our code, what it is, and how."""
ASK: Final = "ask an administrator of the perimeter"
NOWHERE: Final = "0.0.0.0"  # noqa: S104 - no address is bound: it stands for "from anywhere" in explanations


def decide(directory: "Directory", session: SessionFacts, resource: str, now: datetime) -> Answer:
    """Whether ``session`` may reach the resource of that name at ``now`` (aware)."""
    refusal = standing(directory, session.user_id, session.device_id)
    if refusal is not None:
        return refusal
    user, device = directory.users[session.user_id], directory.devices[session.device_id]
    return _judge(directory, user, device, session=session, name=resource, now=now)


def decide_all(directory: "Directory", session: SessionFacts, now: datetime) -> dict[str, Answer]:
    """The answer for every resource there is, by name."""
    return {name: decide(directory, session, name, now) for name in sorted(directory.resources)}


def standing(directory: "Directory", user_id: UUID, device_id: UUID) -> Deny | None:
    """Why this person on this device may have no session at all; None if they may."""
    user = directory.users.get(user_id)
    if user is None:
        return Deny("user_unknown", "This account does not exist.", ASK)
    if user.disabled_at is not None:
        return Deny("user_disabled", "This account is disabled.", ASK)
    device = directory.devices.get(device_id)
    if device is None or device.user_id != user_id:
        return Deny("device_unknown", "This device is not enrolled for this account.", f"{ASK} for an invite")
    if device.revoked_at is not None:
        return Deny("device_revoked", "This device was revoked.", f"{ASK} for a new invite")
    if device.approved_at is None:
        return Deny("device_pending", "This device waits for approval.", f"{ASK} to approve device {device_id}")
    return None


def explain(
    directory: "Directory",
    user: str,
    resource: str,
    now: datetime,
    session: SessionFacts | None = None,
    *,
    source: str = NOWHERE,
) -> Explanation:
    """What ``decide`` answers for the person of that name; without ``session``, for one just begun from ``source``."""
    person = directory.user_named(user)
    if person is None:
        return Explanation(Deny("user_unknown", f"There is no user {user!a}.", "see: gloam-controller user list"), "")
    if session is not None:
        return Explanation(decide(directory, session, resource, now), "")
    if person.disabled_at is not None:
        return Explanation(Deny("user_disabled", "This account is disabled.", ASK), "")
    own = (each for each in directory.devices.values() if standing(directory, person.id, each.id) is None)
    device = min(own, key=lambda each: (each.name, each.id), default=None)
    known = f"device {device.name}" if device is not None else "an approved device"
    if device is None:
        device = Device(UUID(int=0), person.id, name="", platform="", approved_at=now)
    facts = SessionFacts(person.id, device.id, mfa_at=now, source=source, started_at=now, methods=USUAL)
    answer = _judge(directory, person, device, session=facts, name=resource, now=now)
    return Explanation(answer, f"{known}, password and code proved just now, source address {source}")


def _judge(
    directory: "Directory", user: User, device: Device, *, session: SessionFacts, name: str, now: datetime
) -> Answer:
    resource = directory.resources.get(name)
    if resource is None:
        return Deny("resource_unknown", f"There is no resource {name!a}.", "see: gloam resources")
    try:
        context = Context.of(session, device, now)
    except ValueError:
        return Deny("policy_error", "The address this session came from cannot be read.", "log in again: gloam login")
    verdict = directory.engine.verdict(user, resource, context)
    if verdict.allowed:
        return Allow(verdict.policies)
    if verdict.errors:
        sentence = f"The policies for {resource.name} could not be evaluated, so the answer is no."
        return Deny("policy_error", sentence, f"{ASK} to look at: gloam-controller policy show", verdict.policies)
    return _refusal(directory, user, resource, context, verdict)


def _refusal(
    directory: "Directory", user: User, resource: Resource, context: Context, verdict: Verdict
) -> StepUp | Deny:
    """Why not, beginning with what the person can do about it themselves."""
    fresh = directory.engine.verdict(user, resource, context.at(context.now))
    if fresh.allowed:
        return _step_up(directory, resource, context, fresh)
    for method, code, what, how in STRONGER if "mfa" in context.methods else ():
        stronger = directory.engine.verdict(user, resource, context.at(context.now).by(method))
        if stronger.allowed:
            sentence = f"{resource.name} asks for {what}, which you did not use in this session."
            return StepUp(code, sentence, f"prove it: {how}", stronger.policies)
    if verdict.policies:
        return _forbidden(directory, verdict)
    return (
        _outside_hours(directory, user, resource, context)
        or _ended(directory, user, resource, context.now)
        or Deny("no_grant", f"No grant lets you reach {resource.name}.", f"{ASK} for a grant on {resource.name}")
    )


def _step_up(directory: "Directory", resource: Resource, context: Context, fresh: Verdict) -> StepUp:
    if "mfa" not in context.methods:
        sentence = f"{resource.name} asks for a second factor, and this session has none."
        return StepUp("mfa_missing", sentence, f"{ASK}: a service has none", fresh.policies)
    age = format_duration(timedelta(seconds=context.mfa_age_seconds))
    limits = [grant.mfa_within for grant in _grants(directory, fresh) if grant.mfa_within is not None]
    wanted = f"no older than {format_duration(max(limits))}" if limits else "fresher than yours"
    sentence = f"{resource.name} asks for a second factor {wanted}; yours is {age} old."
    return StepUp("mfa_stale", sentence, "prove it again: gloam login --step-up", fresh.policies)


def _forbidden(directory: "Directory", verdict: Verdict) -> Deny:
    policy = directory.engine.policies[verdict.policies[0]]
    sentence = f"{policy.reason} (policy {policy.id})" if policy.reason else f"The policy {policy.id} forbids it."
    return Deny("forbidden", sentence, policy.fix or f"{ASK} about the policy {policy.id}", verdict.policies)


def _outside_hours(directory: "Directory", user: User, resource: Resource, context: Context) -> Deny | None:
    """The denial with the first moment at which hours open and all else would allow; None if there is none."""
    engine = directory.engine
    windows = engine.slice(user, resource).windows
    if not windows or not engine.verdict(user, resource, context.at(context.now), all_open=True).allowed:
        return None
    openings = ((hours.next_opening(context.now), hours) for hours in windows.values())
    for opening, hours in sorted(
        ((at, hours) for at, hours in openings if at is not None), key=lambda each: (each[0], str(each[1]))
    ):
        then = engine.verdict(user, resource, context.at(opening))
        if then.allowed:
            shown = opening.astimezone(ZoneInfo(hours.zone))
            when = f"{DAYS[shown.weekday()]} {shown:%Y-%m-%d %H:%M} {hours.zone}"
            sentence = f"{resource.name} is closed to you now: it opens on {when} ({hours})."
            return Deny("outside_hours", sentence, f"try again then, or {ASK} for other hours", then.policies)
    return None


def _ended(directory: "Directory", user: User, resource: Resource, now: datetime) -> Deny | None:
    """The denial for a grant that has ended, or will before its hours open again; None if there is none."""
    ending = [(grant.expires_at, grant.policy_id) for grant in directory.grants_for(user, resource) if grant.expires_at]
    if not ending:
        return None
    ends, policy = max(ending)
    verb = "ended" if ends <= now else "opens no more before it ends,"
    sentence = f"Your grant on {resource.name} {verb} on {ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    return Deny("grant_expired", sentence, f"{ASK} for a new grant on {resource.name}", (policy,))


def _grants(directory: "Directory", verdict: Verdict) -> list[Grant]:
    return [directory.grants[policy] for policy in verdict.policies if policy in directory.grants]
