"""The laws of gateway/leases.py, each as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.leases import ControllerTime, Cut, ForgetKeys, Leases, Reach, Refusal, SetKeys, key_id_of
from wire.messages import Address, Denial, Lease, Permit, ServedResource

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = ControllerTime(T0, 1000.0)  # the controller's T0 is our monotonic 1000
NOW = 1000.0
ALICE, BOB, LAPTOP, PHONE = (UUID(int=n) for n in range(1, 5))
KEY, NEXT_KEY = bytes(64), bytes([1]) * 64
WIKI = Permit(
    resource="wiki", port=80, target=Address(host="10.0.0.1", port=8080), protocol="tcp", policies=("grant/1",)
)
SHOP = Permit(resource="shop", port=443, target=Address(host="10.0.0.2", port=443), protocol="http", policies=())
DNS = Permit(resource="dns", port=53, target=Address(host="10.0.0.3", port=53), protocol="udp", policies=())
PAYROLL = Denial(
    resource="payroll", code="mfa_too_old", sentence="payroll needs MFA within 15 minutes", fix="run gloam login"
)
SERVED = tuple(
    ServedResource(name=n, port=p)
    for n, p in [("wiki", 80), ("shop", 443), ("dns", 53), ("payroll", 443), ("vault", 1)]
)


def lease(  # noqa: PLR0917
    session: UUID = ALICE,
    device: Any = LAPTOP,
    permits: Any = (WIKI,),
    denials: Any = (),
    seconds: float = 600.0,
    keys: Any = (KEY,),
) -> Lease:
    return Lease(
        session=session,
        device=device,
        user="alice",
        knock_keys=keys,
        permits=permits,
        denials=denials,
        valid_until=T0 + timedelta(seconds=seconds),
        policy_revision=1,
    )


def leases(*held: Lease, served: Any = SERVED) -> Leases:
    made = Leases()
    made.replace(held, served, CLOCK, NOW)
    return made


KNOCKED = frozenset({key_id_of(LAPTOP)})


@pytest.mark.parametrize(
    ("session", "knocked", "name", "port", "now", "status", "code"),
    [
        (BOB, KNOCKED, "wiki", 80, NOW, 403, "no_lease"),
        (ALICE, KNOCKED, "wiki", 80, NOW + 600, 403, "lease_expired"),
        (ALICE, frozenset(), "wiki", 80, NOW, 403, "no_knock"),
        (ALICE, frozenset({key_id_of(PHONE)}), "wiki", 80, NOW, 403, "no_knock"),
        (ALICE, KNOCKED, "wiki", 81, NOW, 404, "wrong_port"),
        (ALICE, KNOCKED, "nothing", 80, NOW, 404, "not_served"),
        (ALICE, KNOCKED, "vault", 2, NOW, 404, "not_served"),
        (ALICE, KNOCKED, "vault", 1, NOW, 403, "no_grant"),
        (ALICE, KNOCKED, "payroll", 443, NOW, 403, "mfa_too_old"),
        (ALICE, KNOCKED, "dns", 53, NOW, 404, "udp_resource"),
    ],
)
def test_what_a_lease_does_not_permit_is_refused_with_a_reason(  # noqa: PLR0917
    session: UUID, knocked: frozenset[str], name: str, port: int, now: float, status: int, code: str
) -> None:
    held = leases(lease(permits=(WIKI, DNS), denials=(PAYROLL,)))
    answer = held.permits(session, knocked, name, port, now)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.code) == (status, code)
    assert answer.error == {403: "http_request_denied", 404: "destination_not_found"}[status]
    assert answer.sentence in answer.details


def test_a_denial_says_the_rule_and_the_fix() -> None:
    answer = leases(lease(denials=(PAYROLL,))).permits(ALICE, KNOCKED, "payroll", 443, NOW)
    assert isinstance(answer, Refusal)
    assert answer.details == "payroll needs MFA within 15 minutes; run gloam login"


@pytest.mark.parametrize(("name", "port", "permit"), [("wiki", 80, WIKI), ("shop", 443, SHOP)])
def test_what_a_lease_permits_is_answered_with_the_controllers_target(name: str, port: int, permit: Any) -> None:
    assert leases(lease(permits=(WIKI, SHOP))).permits(ALICE, KNOCKED, name, port, NOW + 599.9) == permit


def test_a_lease_ends_in_the_controllers_time_whatever_our_clock_says() -> None:
    held = Leases()
    late = ControllerTime(T0 + timedelta(hours=5), 7.0)
    held.put(lease(seconds=5 * 3600 + 30), late, 7.0)
    assert held.earliest_deadline() == pytest.approx(37.0)
    assert late.at(37.0) == T0 + timedelta(hours=5, seconds=30)


def test_a_new_lease_brings_its_keys_and_cuts_nothing() -> None:
    assert Leases().put(lease(), CLOCK, NOW) == (SetKeys(key_id_of(LAPTOP), (KEY,)),)


def test_a_renewed_lease_with_the_same_keys_and_permits_has_no_effect_but_its_later_end() -> None:
    held = leases(lease())
    assert held.put(lease(seconds=1200), CLOCK, NOW) == ()
    assert held.expire(NOW + 600) == ()
    assert held.earliest_deadline() == NOW + 1200


@pytest.mark.parametrize(
    ("permits", "cut"),
    [
        ((WIKI, SHOP), False),
        ((WIKI, SHOP, DNS), False),
        ((SHOP,), True),
        ((), True),
        ((WIKI.model_copy(update={"policies": ("grant/2",)}), SHOP), False),
        ((WIKI.model_copy(update={"target": Address(host="10.0.0.9", port=8080)}), SHOP), True),
        ((WIKI.model_copy(update={"port": 81}), SHOP), True),
        ((WIKI.model_copy(update={"protocol": "http"}), SHOP), True),
    ],
)
def test_a_lease_that_lost_a_permit_cuts_what_used_it_and_keeps_the_rest(permits: Any, cut: Any) -> None:
    held = leases(lease(permits=(WIKI, SHOP)))
    effects = held.put(lease(permits=permits), CLOCK, NOW)
    cuts = [each for each in effects if isinstance(each, Cut)]
    assert bool(cuts) is cut
    for each in cuts:
        assert each.session == ALICE
        assert each.kept == {Reach.of(permit) for permit in permits}


def test_new_knock_keys_replace_the_old_ones() -> None:
    held = leases(lease())
    assert held.put(lease(keys=(NEXT_KEY, KEY)), CLOCK, NOW) == (SetKeys(key_id_of(LAPTOP), (NEXT_KEY, KEY)),)


def test_a_dropped_lease_takes_its_keys_first_then_its_tunnels() -> None:
    held = leases(lease())
    assert held.drop(ALICE, "revoked", "revoked by an administrator") == (
        ForgetKeys(key_id_of(LAPTOP)),
        Cut(ALICE, "revoked", "revoked by an administrator"),
    )
    assert not held.live(key_id_of(LAPTOP), ALICE, NOW)
    assert len(held) == 0


def test_a_devices_keys_live_as_long_as_one_of_its_leases() -> None:
    held = leases(lease(), lease(session=BOB))
    assert not [each for each in held.drop(ALICE, "over", "") if isinstance(each, ForgetKeys)]
    assert ForgetKeys(key_id_of(LAPTOP)) in held.drop(BOB, "over", "")


def test_dropping_what_is_not_here_cuts_all_the_same() -> None:
    assert Leases().drop(ALICE, "revoked", "why") == (Cut(ALICE, "revoked", "why"),)


def test_a_snapshot_is_everything() -> None:
    held = leases(lease(), lease(session=BOB, device=PHONE))
    effects = held.replace([lease(session=BOB, device=PHONE)], SERVED[:1], CLOCK, NOW)
    assert effects == (ForgetKeys(key_id_of(LAPTOP)), Cut(ALICE, "session_over", "the session has ended"))
    assert held.served == SERVED[:1]


def test_a_lease_that_is_over_when_it_comes_is_a_drop() -> None:
    held = leases(lease())
    assert Cut(ALICE, "lease_expired", "the session's lease has expired") in held.put(lease(seconds=0), CLOCK, NOW)
    assert len(held) == 0


def test_a_session_never_changes_hands() -> None:
    held = leases(lease())
    effects = held.put(lease(device=PHONE, keys=(NEXT_KEY,)), CLOCK, NOW)
    assert [type(each) for each in effects] == [ForgetKeys, Cut, SetKeys]


@pytest.mark.parametrize(("after", "over"), [(599.9, False), (600.0, True), (700.0, True)])
def test_leases_end_on_time(after: Any, over: Any) -> None:
    effects = leases(lease()).expire(NOW + after)
    assert bool(effects) is over


def test_in_an_outage_live_tunnels_outlive_the_lease_by_the_grace_and_nothing_new_is_opened() -> None:
    held = leases(lease())
    held.begin_outage(900)
    assert held.earliest_deadline() == NOW + 1500
    assert held.latest_deadline() == NOW + 1500
    assert held.expire(NOW + 1499) == ()
    refused = held.permits(ALICE, KNOCKED, "wiki", 80, NOW + 700)
    assert isinstance(refused, Refusal)
    assert refused.code == "lease_expired"
    assert not held.live(key_id_of(LAPTOP), ALICE, NOW + 700)
    assert Cut(ALICE, "lease_expired", "the session's lease has expired") in held.expire(NOW + 1500)


def test_the_end_of_an_outage_ends_what_only_its_grace_kept() -> None:
    held = leases(lease(), lease(session=BOB, device=PHONE, seconds=5000))
    held.begin_outage(900)
    assert [each.session for each in held.end_outage(NOW + 700) if isinstance(each, Cut)] == [ALICE]
    assert [each.lease.session for each in held.held] == [BOB]


@pytest.mark.parametrize(
    ("key_id", "session", "now", "live"),
    [
        (key_id_of(LAPTOP), ALICE, NOW, True),
        (key_id_of(LAPTOP), ALICE, NOW + 600, False),
        (key_id_of(PHONE), ALICE, NOW, False),
        (key_id_of(LAPTOP), BOB, NOW, False),
        ("gateway/edge", ALICE, NOW, False),
    ],
)
def test_a_knock_must_name_a_live_session_of_its_own_device(key_id: Any, session: UUID, now: float, live: Any) -> None:
    assert leases(lease()).live(key_id, session, now) is live


def test_a_session_was_seen_where_its_lease_says_and_nowhere_else() -> None:
    held = leases(lease().model_copy(update={"addresses": ("192.0.2.7", "2001:db8::7")}), lease(BOB))
    assert held.seen_at(ALICE, "192.0.2.7")
    assert held.seen_at(ALICE, "2001:db8::7")
    assert not held.seen_at(ALICE, "192.0.2.8")
    assert not held.seen_at(BOB, "192.0.2.7")
    held.drop(ALICE, "over", "")
    assert not held.seen_at(ALICE, "192.0.2.7")


def test_effects_do_not_show_keys() -> None:
    assert repr(KEY) not in repr(SetKeys("device/x", (KEY,)))


sessions = st.integers(0, 5).map(lambda n: UUID(int=100 + n))
devices = st.integers(0, 2).map(lambda n: UUID(int=200 + n))
steps = st.one_of(
    st.tuples(st.just("put"), sessions, devices, st.floats(-10, 50)),
    st.tuples(st.just("drop"), sessions),
    st.tuples(st.just("pass"), st.floats(0, 20)),
    st.tuples(st.just("outage"), st.floats(0, 30)),
    st.tuples(st.just("back")),
)


@given(st.lists(steps, max_size=40))
def test_whatever_happens_keys_are_exactly_those_of_held_leases_and_the_timer_is_right(story: Any) -> None:
    held, now, known = Leases(), NOW, {}
    for step in story:
        match step:
            case ("put", session, device, seconds):
                made = lease(session, device, seconds=now - NOW + seconds, keys=(device.bytes * 4,))
                effects = held.put(made, CLOCK, now)
            case ("drop", session):
                effects = held.drop(session, "over", "")
            case ("pass", seconds):
                now += seconds
                effects = held.expire(now)
            case ("outage", grace):
                held.begin_outage(grace)
                effects = ()
            case _:
                effects = held.end_outage(now)
        for effect in effects:
            if isinstance(effect, SetKeys):
                known[effect.key_id] = effect.keys
            elif isinstance(effect, ForgetKeys):
                del known[effect.key_id]
        assert known == {key_id_of(each.lease.device): each.lease.knock_keys for each in held.held}
        assert held.earliest_deadline() == min((each.ends + held._grace for each in held.held), default=None)
        assert all(held.find(each.lease.session) is each for each in held.held)
