"""OpenSSL, which verifies our chains in practice, agrees with what we issue."""

from datetime import UTC, datetime
from typing import Any

import pytest
from OpenSSL import crypto

from certs.names import Name, Purpose
from certs.verify import name_of

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
NAMES = [
    Name.parse("spiffe://example.test/controller/main"),
    Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555"),
    Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
]


def verified(chain: Any, trusted: Any, *, partial: bool) -> Any:
    """The chain OpenSSL builds from ``chain`` to one of ``trusted``."""
    store = crypto.X509Store()
    for each in trusted:
        store.add_cert(crypto.X509.from_cryptography(each))
    flags = crypto.X509StoreFlags.X509_STRICT
    store.set_flags(flags | crypto.X509StoreFlags.PARTIAL_CHAIN if partial else flags)
    store.set_time(NOW.replace(tzinfo=None))
    leaf, *others = (crypto.X509.from_cryptography(each) for each in chain)
    return [each.to_cryptography() for each in crypto.X509StoreContext(store, leaf, others).get_verified_chain()]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.kind.value)
def test_an_intermediate_is_anchor_enough(authorities: Any, name: Name) -> None:
    identity = authorities.issue(name)
    chain = verified(identity.chain, authorities.trust.only(name.purpose)[name.purpose], partial=True)
    assert chain == list(identity.chain[:2])
    assert name_of(chain, anchors=authorities.trust.anchors, domain="example.test", now=NOW) == name


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.kind.value)
def test_the_root_verifies_the_whole_chain(authorities: Any, name: Name) -> None:
    identity = authorities.issue(name)
    assert verified(identity.chain, [authorities.root.certificate], partial=False) == list(identity.chain)


def test_the_intermediate_of_another_purpose_is_no_anchor(authorities: Any) -> None:
    identity = authorities.issue(NAMES[1])
    with pytest.raises(crypto.X509StoreContextError):
        verified(identity.chain, authorities.trust.only(Purpose.SESSIONS)[Purpose.SESSIONS], partial=True)


def test_in_a_rotation_openssl_finds_the_anchor_that_signed(authorities: Any) -> None:
    """Both intermediates of a purpose have one subject; the key identifiers tell them apart."""
    from certs.issue import issue_intermediate, issue_leaf, make_csr, new_private_key

    old = authorities.issuers[Purpose.SESSIONS]
    new = issue_intermediate(authorities.root, Purpose.SESSIONS, "example.test", now=NOW)
    for issuer in (old, new):
        leaf = issue_leaf(
            issuer, make_csr(new_private_key()), NAMES[2], now=NOW, lifetime=new.certificate.not_valid_after_utc - NOW
        )
        for trusted in ([old.certificate, new.certificate], [new.certificate, old.certificate]):
            assert verified([leaf], trusted, partial=True) == [leaf, issuer.certificate]
