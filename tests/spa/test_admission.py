import json
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.names import Name
from certs.secret import Secret
from spa.admission import Admission, Admit, Drop
from spa.errors import DropReason
from spa.limits import MAX_SKEW_US, REMEMBERED
from spa.networks import parse_networks
from spa.packet import Knock, KnockKey, KnockKind, derive_key, encode

DOCUMENT = json.loads((Path(__file__).parent.parent / "vectors" / "knock.json").read_text())
NOW = DOCUMENT["now_us"]
ALL = frozenset(KnockKind)
SEEN = IPv4Address("192.0.2.7")
KEY = KnockKey(bytes(32), bytes(range(32)))
NEW_KEY = KnockKey(bytes([1]) * 32, bytes([2]) * 32)


def admission(**changes: Any) -> Admission:
    facts: dict[str, Any] = {
        "started_us": 0,
        "kinds": ALL,
        "ports": frozenset({8443}),
        "lease_live": lambda key_id, session: key_id == "device/1" and session == UUID(DOCUMENT["session"]),
    }
    return Admission(**facts | changes)


def knock(at: int = NOW, key: KnockKey = KEY, **fields: Any) -> bytes:
    whole: dict[str, Any] = {"kind": KnockKind.CONTROL, "time_us": at, "session": None, "source": None, "port": 8443}
    return encode(Knock(**whole | fields), key, nonce=bytes(12), pad=b"")


def reason(answer: Admit | Drop) -> str:
    return answer.reason.value if isinstance(answer, Drop) else "admit"


@pytest.mark.parametrize("vector", DOCUMENT["vectors"], ids=lambda vector: vector["name"])
def test_every_vector_comes_to_what_it_names(vector: dict[str, Any]) -> None:
    judge = admission(started_us=vector["started_us"], kinds=frozenset(map(KnockKind, vector["kinds"])))
    key = derive_key(Secret(bytes.fromhex(DOCUMENT["secret"])), Name.parse(DOCUMENT["server"]))
    assert key.to_bytes().hex() == DOCUMENT["key"]
    judge.put("device/1", key, frozenset(map(KnockKind, vector["key_kinds"])), NOW)
    for earlier in vector["after"]:
        judge.admit(bytes.fromhex(earlier), SEEN, NOW)
    before = judge.counters.copy()

    answer = judge.admit(bytes.fromhex(vector["datagram"]), ip_address(vector["seen"]), NOW)

    assert reason(answer) == vector["expect"]
    if isinstance(answer, Drop):
        assert judge.counters - before == {answer.reason: 1}
        unknown = answer.reason in {DropReason.LENGTH, DropReason.LOCATOR, DropReason.OPEN}
        assert answer.key_id == (None if unknown else "device/1")
    else:
        assert judge.counters == before
        assert (answer.key_id, answer.port) == ("device/1", 8443)
        assert answer.sources in {(SEEN,), (ip_address("2001:db8::7"),)}


def test_every_reason_has_a_vector() -> None:
    assert {vector["expect"] for vector in DOCUMENT["vectors"]} == {*DropReason, "admit"}


def test_an_admitted_tunnel_knock_names_its_session() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    session = UUID(DOCUMENT["session"])
    answer = judge.admit(knock(kind=KnockKind.TUNNEL, session=session), SEEN, NOW)
    assert answer == Admit("device/1", KnockKind.TUNNEL, session, (SEEN,), 8443)
    assert judge.admitted == 1


SESSION = UUID(DOCUMENT["session"])
ELSEWHERE = IPv4Address("198.51.100.9")
POOL = tuple(IPv4Address(f"192.0.2.{last}") for last in range(4, 8))  # SEEN is in it
TUNNEL: dict[str, Any] = {"kind": KnockKind.TUNNEL, "session": SESSION}


@pytest.mark.parametrize(
    ("named", "kind", "seen_at", "shared", "opens"),
    [
        (None, {}, None, [], (SEEN,)),
        (SEEN, {}, None, [], (SEEN,)),
        (ELSEWHERE, {}, None, [], None),
        # The controller saw the session there.
        (ELSEWHERE, TUNNEL, ELSEWHERE, [], (ELSEWHERE,)),
        (ip_address("2001:db8::9"), TUNNEL, ip_address("2001:db8::9"), [], (ip_address("2001:db8::9"),)),
        (ELSEWHERE, TUNNEL, SEEN, [], None),
        (ELSEWHERE, TUNNEL, None, [], None),
        (ELSEWHERE, {}, ELSEWHERE, [], None),  # a knock without a session has been seen nowhere
        (None, TUNNEL, ELSEWHERE, [], (SEEN,)),  # what is not named does not open
        # The administrator says that the pool is shared.
        (None, {}, None, ["192.0.2.4/30"], POOL),
        (POOL[0], {}, None, ["192.0.2.4/30"], (POOL[0],)),
        (SEEN, {}, None, ["192.0.2.4/30"], (SEEN,)),
        (ip_address("192.0.2.3"), {}, None, ["192.0.2.4/30"], None),
        (ELSEWHERE, {}, None, ["192.0.2.4/30", "198.51.100.0/28"], None),  # both listed, but not together
        (None, {}, None, ["198.51.100.0/27"], (SEEN,)),
    ],
)
def test_the_address_a_knock_opens_for(named: Any, kind: Any, seen_at: Any, shared: list[str], opens: Any) -> None:
    judge = admission(
        session_seen_at=lambda session, address: session == SESSION and address == seen_at,
        shared=parse_networks(shared),
    )
    judge.put("device/1", KEY, ALL, NOW)
    answer = judge.admit(knock(source=named, **kind), SEEN, NOW)
    assert answer.sources == opens if isinstance(answer, Admit) else (opens, answer.reason) == (None, DropReason.SOURCE)


def test_skew_tells_how_far_the_clock_is_off() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    answer = judge.admit(knock(NOW - MAX_SKEW_US - 5), SEEN, NOW)
    assert answer == Drop(DropReason.CLOCK_SKEW, "device/1", -MAX_SKEW_US - 5)


def test_a_knock_far_in_the_future_does_not_lock_its_key_out() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    judge.admit(knock(NOW + MAX_SKEW_US + 1), SEEN, NOW)
    assert reason(judge.admit(knock(NOW), SEEN, NOW)) == "admit"


def test_a_key_added_opens_at_once_and_a_key_dropped_at_once_no_more() -> None:
    judge = admission()
    assert reason(judge.admit(knock(), SEEN, NOW)) == "locator"
    judge.put("device/1", KEY, ALL, NOW)
    assert len(judge) == 1
    assert reason(judge.admit(knock(), SEEN, NOW)) == "admit"
    judge.drop("device/1")
    judge.drop("device/1")
    assert len(judge) == 0
    assert reason(judge.admit(knock(NOW + 1), SEEN, NOW)) == "locator"


def test_a_captured_knock_opens_nothing_after_its_key_was_dropped_and_put_back() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    judge.admit(knock(NOW + MAX_SKEW_US), SEEN, NOW)
    judge.drop("device/1")
    judge.put("device/1", KEY, ALL, NOW)
    assert reason(judge.admit(knock(NOW + MAX_SKEW_US), SEEN, NOW)) == "old_time"
    judge.drop("device/1")
    later = NOW + 2 * MAX_SKEW_US + 1
    judge.roll(later)  # forgets: from here on skew refuses it
    judge.put("device/1", KEY, ALL, later)
    assert reason(judge.admit(knock(NOW + MAX_SKEW_US), SEEN, later)) == "clock_skew"


def test_the_memory_of_dropped_keys_does_not_grow() -> None:
    judge = admission()
    for step in range(200):
        now = NOW + step * 10_000_000
        key = KnockKey(step.to_bytes(32, "big"), bytes(32))
        judge.put("device/1", key, ALL, now)
        judge.admit(knock(now, key), SEEN, now)
        judge.drop("device/1")
    assert len(judge._retired) <= 14


def test_while_a_key_is_replaced_both_open_and_then_only_the_new_one() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    judge.put_also("device/1", NEW_KEY, ALL, NOW)
    judge.put_also("device/1", KEY, ALL, NOW)
    assert len(judge) == 2
    assert reason(judge.admit(knock(key=KEY), SEEN, NOW)) == "admit"
    assert reason(judge.admit(knock(key=NEW_KEY), SEEN, NOW)) == "admit"
    judge.put("device/1", NEW_KEY, ALL, NOW)
    assert len(judge) == 1
    assert reason(judge.admit(knock(NOW + 1, KEY), SEEN, NOW)) == "locator"
    assert reason(judge.admit(knock(NOW, NEW_KEY), SEEN, NOW)) == "old_time"
    assert reason(judge.admit(knock(NOW + 1, NEW_KEY), SEEN, NOW)) == "admit"


def test_putting_a_key_again_changes_what_it_may_ask_for() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    judge.put("device/1", KEY, frozenset({KnockKind.TUNNEL}), NOW)
    assert reason(judge.admit(knock(), SEEN, NOW)) == "kind_not_allowed"


def test_a_key_under_two_ids_survives_the_end_of_one() -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    judge.put("device/2", KEY, ALL, NOW)
    judge.drop("device/1")
    answer = judge.admit(knock(), SEEN, NOW)
    assert isinstance(answer, Admit)
    assert answer.key_id == "device/2"


def test_a_key_given_to_another_id_takes_its_memory_along() -> None:
    judge = admission()
    judge.put("device/1", NEW_KEY, ALL, NOW)
    judge.put_also("device/1", KEY, ALL, NOW)
    assert reason(judge.admit(knock(), SEEN, NOW)) == "admit"
    judge.put_also("device/2", KEY, ALL, NOW)
    assert len(judge) == 2
    assert reason(judge.admit(knock(), SEEN, NOW)) == "old_time"
    assert reason(judge.admit(knock(key=NEW_KEY), SEEN, NOW)) == "admit"
    judge.put("device/1", KEY, ALL, NOW)
    assert len(judge) == 1
    assert reason(judge.admit(knock(), SEEN, NOW)) == "old_time"
    answer = judge.admit(knock(NOW + 1), SEEN, NOW)
    assert isinstance(answer, Admit)
    assert answer.key_id == "device/1"


def test_the_doors_own_port_is_allowed_when_it_is_known() -> None:
    judge = admission(ports=frozenset())
    judge.put("device/1", KEY, ALL, NOW)
    assert reason(judge.admit(knock(), SEEN, NOW)) == "port"
    judge.allow_port(8443)
    assert reason(judge.admit(knock(NOW + 1), SEEN, NOW)) == "admit"


@given(st.lists(st.binary(max_size=260), max_size=20))
def test_garbage_is_dropped_and_leaves_nothing_behind(garbage: list[bytes]) -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    for datagram in garbage:
        assert isinstance(judge.admit(datagram, SEEN, NOW), Drop)
    assert sum(judge.counters.values()) == len(garbage)
    assert not judge._retired
    assert len(judge) == 1
    assert reason(judge.admit(knock(), SEEN, NOW)) == "admit"


@given(plain=st.binary(min_size=47, max_size=143))
def test_whatever_a_key_holder_seals_is_judged_and_never_raises(plain: bytes) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    where = knock()[:16]
    sealed = ChaCha20Poly1305(KEY.seal_key).encrypt(bytes(12), plain, where)
    judge.admit(where + bytes(12) + sealed, SEEN, NOW)


@given(st.permutations(range(REMEMBERED)), st.lists(st.integers(0, REMEMBERED - 1)))
def test_knocks_that_overtake_each_other_all_open_and_each_once(order: list[int], again: list[int]) -> None:
    judge = admission()
    judge.put("device/1", KEY, ALL, NOW)
    assert {reason(judge.admit(knock(NOW - each), SEEN, NOW)) for each in order} == {"admit"}
    judge.drop("device/1")
    judge.put("device/1", KEY, ALL, NOW)
    assert {reason(judge.admit(knock(NOW - each), SEEN, NOW)) for each in again} <= {"old_time"}
