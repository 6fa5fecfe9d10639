"""When a decision may next change by itself, so that whoever keeps sessions wakes up then and not only now and then.

Law: what is known exactly is told exactly: hours, the end of grants, the age of the second factor that grants ask for.
Clocks in an administrator's own policies (other than hours) are noticed at the next regular look.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.decision.facts import SessionFacts

if TYPE_CHECKING:
    from controller.directory.directory import Directory


def next_change(directory: "Directory", session: SessionFacts, now: datetime) -> datetime | None:
    """The earliest moment after ``now`` at which an answer for ``session`` may differ; None if none is known."""
    user = directory.users.get(session.user_id)
    if user is None:
        return None
    moments: list[datetime] = []
    for policy in directory.engine.policies_of(user):
        moments += [at for hours in policy.windows.values() if (at := hours.next_change(now)) is not None]
        grant = directory.grants.get(policy.id)
        if grant is None:
            continue
        if grant.expires_at is not None:
            moments.append(grant.expires_at)
        if grant.mfa_within is not None:
            moments.append(session.mfa_at + grant.mfa_within + timedelta(microseconds=1))
    return min((at for at in moments if at > now), default=None)
