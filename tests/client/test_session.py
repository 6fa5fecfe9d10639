from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.session import (
    FIRST_WAIT,
    LONGEST_WAIT,
    NoRoute,
    Route,
    Target,
    renewal_due,
    replace_resource,
    route,
    wait_before,
)
from wire.messages import Address, GatewayAddress, ResourceView, SessionView

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def resource(name: str, **changes: object) -> ResourceView:
    values: dict[str, object] = {"port": 80, "protocol": "tcp", "gateways": ("edge", "spare"), "allowed": True}
    return ResourceView(name=name, **(values | changes))  # type: ignore[arg-type]


def gateway(name: str) -> GatewayAddress:
    return GatewayAddress(name=name, tls=Address(host=name, port=1), knock=Address(host=name, port=2))


def view(**changes: object) -> SessionView:
    values: dict[str, object] = {
        "id": UUID(int=1),
        "user": "ada",
        "certificate": "",
        "valid_until": NOW,
        "resources": (
            resource("wiki"),
            resource("vault", allowed=False, code="mfa_age", sentence="your login is too old", fix="log in again"),
            resource("bare", allowed=False),
            resource("island", gateways=("gone",)),
        ),
        "gateways": (gateway("spare"), gateway("edge")),
    }
    return SessionView(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("wiki", Target("wiki")),
        ("wiki:80", Target("wiki", 80)),
        (" Wiki:65535 ", Target("wiki", 65535)),
        ("dns/udp", Target("dns", None, "udp")),
        ("DNS:53/UDP", Target("dns", 53, "udp")),
        ("wiki:80/tcp", Target("wiki", 80)),
        ("", None),
        ("/udp", None),
        ("dns/", None),
        ("dns/sctp", None),
        ("dns/udp:53", None),
        ("dns:/udp", None),
        (":80", None),
        ("wiki:", None),
        ("wiki:0", None),
        ("wiki:65536", None),
        ("wiki:99999999999999999999", None),
        ("wiki:eighty", None),
        ("wiki:٨٠", None),
    ],
)
def test_targets_are_read_as_typed(text: str, target: Target | None) -> None:
    assert Target.parse(text) == target


@given(st.text())
def test_any_text_is_a_target_or_none(text: str) -> None:
    target = Target.parse(text)
    assert target is None or Target.parse(str(target)) == target


def test_gateways_come_in_the_resources_order_and_laggards_last() -> None:
    found = route(view(), Target("wiki"))
    assert isinstance(found, Route)
    assert [each.name for each in found.gateways] == ["edge", "spare"]
    lagging = route(view(lagging=("edge",)), Target("wiki", 80))
    assert isinstance(lagging, Route)
    assert [each.name for each in lagging.gateways] == ["spare", "edge"]


@pytest.mark.parametrize(
    ("target", "denied", "sentence", "fix"),
    [
        (Target("vault"), True, "your login is too old", "log in again"),
        (Target("bare"), True, "you may not reach bare", "ask the administrator for a grant"),
        (Target("wikii"), True, "you may not reach wikii, or it does not exist", "did you mean wiki?"),
        (Target("zzz"), True, "you may not reach zzz, or it does not exist", "gloam resources lists"),
        (Target("vaultt"), True, "you may not reach vaultt, or it does not exist", "gloam resources lists"),
        (Target("wiki", 81), False, "wiki is not reached at port 81", "ask for wiki:80"),
        (Target("island"), False, "no gateway serves island at present", "ask the administrator"),
    ],
)
def test_where_there_is_no_route_it_says_why(target: Target, denied: object, sentence: str, fix: str) -> None:
    none = route(view(), target)
    assert isinstance(none, NoRoute)
    assert (none.denied, none.sentence) == (denied, sentence)
    assert none.fix.startswith(fix)


def test_a_fresh_explanation_replaces_the_old_one() -> None:
    after = replace_resource(view(), resource("vault"))
    assert isinstance(route(after, Target("vault")), Route)
    assert len(after.resources) == len(view().resources)


def test_sessions_are_renewed_halfway() -> None:
    assert renewal_due(NOW, NOW + timedelta(minutes=10)) == NOW + timedelta(minutes=5)
    assert renewal_due(NOW, NOW - timedelta(minutes=10)) == NOW


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_a_bound_and_are_never_the_same_for_all(attempt: int, chance: float) -> None:
    wait = wait_before(attempt, chance)
    assert FIRST_WAIT / 2 <= wait <= LONGEST_WAIT
    assert wait_before(attempt, 0.0) < wait_before(attempt, 0.99)
