"""The rules as text. What the kernel makes of them is in test_nftables.py and test_door.py."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa.cloak import ruleset

RULES = """\
add table inet gloam-192.0.2.1-8443
delete table inet gloam-192.0.2.1-8443
table inet gloam-192.0.2.1-8443 {
\tset v4 {
\t\ttype ipv4_addr
\t\tflags timeout
\t}
\tset v6 {
\t\ttype ipv6_addr
\t\tflags timeout
\t}
\tchain guard {
\t\tip saddr @v4 accept comment "has knocked"
\t\tip6 saddr @v6 accept comment "has knocked"
\t\ttcp flags & (syn | ack) == syn drop comment "wants to connect"
\t\tsocket transparent 0 accept comment "of an accepted connection"
\t\tdrop
\t}
\tchain input {
\t\ttype filter hook input priority filter - 10; policy accept;
\t\tip daddr 192.0.2.1 tcp dport 8443 goto guard
\t}
}
"""


def test_the_rules_of_a_port() -> None:
    assert ruleset.put_up("192.0.2.1", 8443) == RULES


@pytest.mark.parametrize(
    ("host", "table", "match"),
    [
        ("192.0.2.1", "gloam-192.0.2.1-443", "ip daddr 192.0.2.1 tcp dport 443"),
        ("2001:db8::1", "gloam-2001-db8--1-443", "ip6 daddr 2001:db8::1 tcp dport 443"),
        ("::ffff:192.0.2.1", "gloam-192.0.2.1-443", "ip daddr 192.0.2.1 tcp dport 443"),
        ("fe80::1%eth0", "gloam-fe80--1-443", "ip6 daddr fe80::1 tcp dport 443"),
        ("0.0.0.0", "gloam-0.0.0.0-443", "meta nfproto ipv4 tcp dport 443"),  # noqa: S104 - a text
        ("::", "gloam-any-443", "tcp dport 443"),
    ],
)
def test_each_address_and_port_has_a_table_and_one_match_of_its_own(host: str, table: str, match: str) -> None:
    assert ruleset.table_of(host, 443) == table
    rules = ruleset.put_up(host, 443)
    assert f"\t\t{match} goto guard\n" in rules
    assert rules.count("dport") == 1, "it decides about nothing else"
    assert "policy accept" in rules
    assert ruleset.take_away(table) == f"add table inet {table}\ndelete table inet {table}\n"


A, B, C = ip_address("192.0.2.1"), ip_address("192.0.2.2"), ip_address("2001:db8::1")


def test_a_change_is_one_text_that_may_be_run_again() -> None:
    assert ruleset.change("t", {A: 9_990, C: 10_000}, [B]) == (
        "add element inet t v4 { 192.0.2.1 timeout 1s, 192.0.2.2 timeout 1s }\n"
        "delete element inet t v4 { 192.0.2.1, 192.0.2.2 }\n"
        "add element inet t v4 { 192.0.2.1 timeout 9990ms }\n"
        "add element inet t v6 { 2001:db8::1 timeout 1s }\n"
        "delete element inet t v6 { 2001:db8::1 }\n"
        "add element inet t v6 { 2001:db8::1 timeout 10000ms }\n"
    )
    assert ruleset.change("t", {}, [C]) == (
        "add element inet t v6 { 2001:db8::1 timeout 1s }\ndelete element inet t v6 { 2001:db8::1 }\n"
    )
    assert ruleset.change("t", {}, []) == ""


def play(text: str, inside: dict[str, str]) -> None:
    """What the kernel does with the text, in the words of nft(8)."""
    for line in text.splitlines():
        verb, _, _, table, _, elements = line.split(" ", 5)
        assert table == "t"
        for element in elements.strip("{} ").split(", "):
            address, _, timeout = element.partition(" timeout ")
            if verb == "add":
                inside.setdefault(address, timeout)
            else:
                del inside[address]


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.dictionaries(addresses, st.integers(1, 10_000)), st.sets(addresses), st.sets(addresses))
def test_whatever_was_inside_those_who_stay_are_and_those_who_left_are_not(
    stay: dict[object, int], gone: set[object], before: set[object]
) -> None:
    gone -= stay.keys()
    inside = {str(each): "7s" for each in before}
    play(ruleset.change("t", stay, gone), inside)  # type: ignore[arg-type]
    assert inside == {str(each): "7s" for each in before - gone} | {str(each): f"{ms}ms" for each, ms in stay.items()}
