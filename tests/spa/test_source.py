from ipaddress import ip_address

import pytest

from spa.source import seen_address


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::7%lo", "fe80::7"),
    ],
)
def test_an_address_is_what_the_standard_library_makes_of_its_plain_form(host: str, plain: str) -> None:
    seen, known = seen_address(host), ip_address(plain)
    assert (seen, hash(seen), str(seen), seen.version) == (known, hash(known), plain, known.version)
    assert {seen: 1}[known] == {known: 1}[seen]
