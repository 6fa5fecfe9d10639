"""The laws of sessions, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from controller.decision import Allow, Deny, StepUp
from controller.sessions.rules import (
    WITHDRAWN,
    AskStepUp,
    Judged,
    LiveSession,
    Outlook,
    PushLeases,
    RecordDecision,
    Renewed,
    TellClient,
    advance,
    over,
    why_not_renewed,
)
from wire.messages import Address, Denial, Lease, Permit, ResourceView

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
END = NOW + timedelta(minutes=10)
DEVICE, OTHER = UUID(int=1), UUID(int=2)
YES, NO = Allow(("grant/1",)), Deny("outside_hours", "It is closed.", "Come back.")
ASK = StepUp("mfa_stale", "Yours is old.", "Log in.")
SESSION = LiveSession(
    id=UUID(int=9),
    user_id=UUID(int=8),
    user="alice",
    device_id=DEVICE,
    source="198.51.100.7",
    started_at=NOW,
    mfa_at=NOW,
    methods=frozenset({"mfa", "otp", "pwd"}),
    valid_until=END,
)
WIKI = Permit(resource="wiki", port=80, target=Address(host="10.0.0.5", port=80), protocol="tcp", policies=("grant/1",))
CLOSED = Denial(resource="wiki", code="outside_hours", sentence="It is closed.", fix="Come back.")


def lease(*permits: Permit, denials: tuple[Denial, ...] = (), until: datetime = END, revision: int = 1) -> Lease:
    return Lease(
        session=SESSION.id,
        device=DEVICE,
        user="alice",
        knock_keys=(bytes(64),),
        permits=permits,
        denials=denials,
        valid_until=until,
        policy_revision=revision,
    )


def view(answer: object) -> ResourceView:
    return ResourceView(
        name="wiki", port=80, protocol="tcp", gateways=("edge",), allowed=isinstance(answer, Allow), code=answer.code
    )


def outlook(answer: object = YES, **leases: Lease) -> Outlook:
    answers = {} if answer is None else {"wiki": answer}
    resources = () if answer is None else (view(answer),)
    return Outlook(leases=leases, resources=resources, answers=answers)


def after(*outlooks: Outlook) -> tuple[LiveSession, tuple[object, ...]]:
    session, effects = SESSION, ()
    for each in outlooks:
        step = advance(session, Judged(each))
        session, effects = step.session, step.effects
    return session, effects


def test_the_first_judgement_pushes_tells_and_records_everything() -> None:
    _, effects = after(outlook(edge=lease(WIKI)))
    assert effects == (PushLeases({"edge": lease(WIKI)}), TellClient(), RecordDecision("wiki", YES))


@pytest.mark.parametrize(
    ("name", "second", "effects"),
    [
        ("nothing changed", outlook(edge=lease(WIKI)), ()),
        ("only the revision", outlook(edge=lease(WIKI, revision=2)), ()),
        (
            "closed now",
            outlook(NO, edge=lease(denials=(CLOSED,))),
            (PushLeases({"edge": lease(denials=(CLOSED,))}), TellClient(), RecordDecision("wiki", NO)),
        ),
        (
            "a fresher proof is wanted",
            outlook(ASK, edge=lease()),
            (PushLeases({"edge": lease()}), TellClient(), RecordDecision("wiki", ASK), AskStepUp(ASK)),
        ),
        (
            "no policy any more: an empty lease, not silence",
            outlook(None),
            (PushLeases({"edge": lease()}), TellClient(), RecordDecision("wiki", WITHDRAWN)),
        ),
        (
            "another gateway as well",
            outlook(edge=lease(WIKI), west=lease(WIKI)),
            (PushLeases({"west": lease(WIKI)}),),
        ),
    ],
)
def test_what_follows_from_the_next_judgement(name: str, second: Outlook, effects: tuple[object, ...]) -> None:
    assert after(outlook(edge=lease(WIKI)), second)[1] == effects


def test_an_empty_lease_is_pushed_once_and_taken_back_when_there_is_something_again() -> None:
    first, gone = outlook(edge=lease(WIKI)), outlook(None)
    assert after(first, gone, gone)[1] == ()
    assert after(first, gone, gone, first)[1][0] == PushLeases({"edge": lease(WIKI)})


def test_a_step_up_is_asked_for_once() -> None:
    wanted = outlook(ASK, edge=lease())
    assert after(wanted, wanted)[1] == ()


def test_leases_end_with_the_certificate() -> None:
    late = lease(WIKI, until=END + timedelta(days=1))
    session, effects = after(outlook(edge=late))
    assert effects[0] == PushLeases({"edge": lease(WIKI)})
    later = END + timedelta(minutes=5)
    step = advance(session, Renewed(later))
    assert step.session.valid_until == later
    assert step.effects == (PushLeases({"edge": lease(WIKI, until=later)}),)
    assert advance(SESSION, Renewed(later)).effects == ()


@pytest.mark.parametrize(
    ("session", "device", "now", "why"),
    [
        (SESSION, DEVICE, NOW, None),
        (SESSION, DEVICE, END - timedelta(microseconds=1), None),
        (SESSION, DEVICE, END, "session_expired"),
        (SESSION, OTHER, NOW, "session_of_another_device"),
        (None, DEVICE, NOW, "session_unknown"),
    ],
)
def test_who_may_renew(session: LiveSession | None, device: UUID, now: datetime, why: str | None) -> None:
    assert why_not_renewed(session, device, now) == why


def test_over_is_at_the_end_not_after_it() -> None:
    assert not over(SESSION, END - timedelta(microseconds=1))
    assert over(SESSION, END)
    assert over(replace(SESSION, valid_until=NOW), NOW)
