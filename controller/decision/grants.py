"""Grants as Cedar policies: the common case of who may reach what, without writing policies.

Law: a grant is exactly the policy shown here, with ``@id("grant/UUID")``; ``policy show`` prints the same text.
"""

from datetime import timedelta

from controller.decision.cedar_text import quote
from controller.decision.facts import Grant, format_datetime


def compile_grant(grant: Grant) -> str:
    """The Cedar text of ``grant``."""
    if grant.user is not None:
        who = f"principal == User::{quote(grant.user)}"
    else:
        who = f"principal in Group::{quote(grant.group or '')}"
    if grant.resource is not None:
        what = f"resource == Resource::{quote(grant.resource)}"
    else:
        what = f"resource in Segment::{quote(grant.segment or '')}"
    lines = [f"@id({quote(grant.policy_id)})"]
    if grant.reason:
        lines.append(f"@reason({quote(grant.reason)})")
    lines.append(f'permit ({who}, action == Action::"connect", {what})')
    lines.extend(f"when {{ {condition} }}" for condition in _conditions(grant))
    return "\n".join(lines) + ";"


def _conditions(grant: Grant) -> list[str]:
    conditions = []
    if grant.hours is not None:
        conditions.append(f"context.open_windows.contains({quote(str(grant.hours))})")
    if grant.mfa_within is not None:
        conditions.append(f"context.mfa_age_seconds <= {grant.mfa_within // timedelta(seconds=1)}")
    if grant.expires_at is not None:
        conditions.append(f"context.now < datetime({quote(format_datetime(grant.expires_at))})")
    return conditions
