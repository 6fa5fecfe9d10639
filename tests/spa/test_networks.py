from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spa.networks import BadNetwork, SharedNetworks, parse_network, parse_networks


def test_nothing_is_shared_unless_it_is_listed() -> None:
    for text in ("192.0.2.7", "2001:db8::7"):
        assert SharedNetworks().together(ip_address(text)) == (ip_address(text),)


def test_an_address_stands_for_its_network_and_no_other() -> None:
    shared = parse_networks(["192.0.2.0/30", "2001:db8::10/127", "198.51.100.4/32"])
    four = tuple(ip_address(f"192.0.2.{last}") for last in range(4))
    for address in four:
        assert shared.together(address) == four
    assert shared.together(ip_address("192.0.2.4")) == (ip_address("192.0.2.4"),)
    assert set(map(str, shared.together(ip_address("2001:db8::11")))) == {"2001:db8::10", "2001:db8::11"}
    assert shared.together(ip_address("198.51.100.4")) == (ip_address("198.51.100.4"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a network"),
        ("192.0.2.1", "not a network"),
        ("192.0.2.0/33", "not a network"),
        ("192.0.2.0/28/28", "not a network"),
        ("carrier", "not a network"),
        ("fe80::%eth0/124", "not a network"),
        ("192.0.2.7/28", "write 192.0.2.0/28"),
        ("2001:db8::7/124", "write 2001:db8::/124"),
        ("::ffff:192.0.2.0/124", "write the IPv4 network"),
        ("192.0.2.0/26", "share at most 32"),
        ("0.0.0.0/0", "share at most 32"),
        ("2001:db8::/64", "share at most 32"),
        ("::/0", "share at most 32"),
        ("\u0661/24", "not a network"),
        ("x" * 1000, "not a network"),
    ],
)
def test_what_cannot_be_shared_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(BadNetwork, match=says) as refused:
        parse_network(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


def test_networks_overlap_or_are_too_many() -> None:
    with pytest.raises(BadNetwork, match="overlap"):
        parse_networks(["192.0.2.0/28", "192.0.2.8/29"])
    with pytest.raises(BadNetwork, match="more than 16"):
        parse_networks([f"192.0.2.{number}/32" for number in range(17)])
    parse_networks(["0.0.0.0/27", "::/123"])


@given(st.text(alphabet="0123456789abf:./% ", max_size=30))
def test_text_is_a_network_or_refused(text: str) -> None:
    try:
        network = parse_network(text)
    except BadNetwork:
        return
    assert network == ip_network(text)
    assert network.num_addresses <= 32
