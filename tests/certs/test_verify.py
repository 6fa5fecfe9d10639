import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certs import profile
from certs.errors import BadCertificate, Refusal
from certs.issue import issue_intermediate, issue_leaf, make_csr, new_private_key
from certs.names import Name, Purpose
from certs.verify import name_of, spki_sha256, spoken_name

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
GATEWAY = Name.parse("spiffe://example.test/gateway/edge")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")
SESSION = Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def refusal(chain: Any, authorities: Any, **changes: object) -> Refusal:
    options = {"anchors": authorities.trust.anchors, "domain": "example.test", "now": NOW, **changes}
    with pytest.raises(BadCertificate) as caught:
        name_of(chain, **options)
    assert str(caught.value)
    assert caught.value.fix
    return caught.value.reason


@pytest.mark.parametrize("name", [GATEWAY, DEVICE, SESSION], ids=lambda name: name.kind.value)
def test_a_chain_proves_its_name(authorities: Any, name: Name) -> None:
    chain = authorities.issue(name).chain
    for length in (2, 3):
        proved = name_of(chain[:length], anchors=authorities.trust.anchors, domain="example.test", now=NOW)
        assert proved == name


def test_services_serve_and_others_do_not(authorities: Any) -> None:
    options = {"anchors": authorities.trust.anchors, "domain": "example.test", "now": NOW, "server": True}
    assert name_of(authorities.issue(GATEWAY, hosts=["localhost", "::1"]).chain, **options) == GATEWAY
    for name in (DEVICE, SESSION):
        assert refusal(authorities.issue(name).chain, authorities, server=True) is Refusal.WRONG_USAGE


def test_each_verifier_trusts_only_the_purposes_it_names(authorities: Any) -> None:
    for name in (GATEWAY, DEVICE, SESSION):
        for purpose in Purpose:
            anchors = authorities.trust.only(purpose)
            if purpose is name.purpose:
                assert name_of(authorities.issue(name).chain, anchors=anchors, domain="example.test", now=NOW) == name
            else:
                chain = authorities.issue(name).chain
                assert refusal(chain, authorities, anchors=anchors) is Refusal.WRONG_ISSUER


def test_the_identity_is_of_the_leaf_even_if_another_certificate_was_presented_too(authorities: Any) -> None:
    """OpenZiti GHSA-mrpr-756c-xm47."""
    device, gateway = authorities.issue(DEVICE), authorities.issue(GATEWAY)
    chain = [*device.chain, gateway.leaf]
    assert name_of(chain, anchors=authorities.trust.anchors, domain="example.test", now=NOW) == DEVICE
    assert refusal([device.leaf, *gateway.chain], authorities) is Refusal.WRONG_ISSUER
    assert refusal([gateway.leaf, device.chain[1]], authorities) is Refusal.WRONG_ISSUER


def test_another_perimeter_of_the_same_domain_proves_nothing(authorities: Any, others: Any) -> None:
    assert refusal(others.issue(GATEWAY).chain, authorities) is Refusal.WRONG_ISSUER
    imitated = [others.issue(GATEWAY).leaf, authorities.issuers[Purpose.SERVICES].certificate]
    assert refusal(imitated, authorities) is Refusal.WRONG_ISSUER


def test_a_chain_needs_its_authority(authorities: Any) -> None:
    leaf = authorities.issue(GATEWAY).leaf
    root = authorities.root.certificate
    for chain in ([], [leaf], [leaf, leaf], [leaf, root], [authorities.issuers[Purpose.SERVICES].certificate, root]):
        assert refusal(chain, authorities) is Refusal.WRONG_ISSUER


def test_a_root_among_the_anchors_still_signs_no_leaf(authorities: Any, forge: Any) -> None:
    leaf = forge().sign(authorities.root)
    anchors = {Purpose.SERVICES: (authorities.root.certificate,)}
    assert refusal([leaf, authorities.root.certificate], authorities, anchors=anchors) is Refusal.WRONG_PURPOSE


def test_an_anchor_counts_only_for_the_purpose_it_says(authorities: Any) -> None:
    """Teleport CVE-2025-49825: one authority trusted for several roles."""
    chain = authorities.issue(DEVICE).chain
    misfiled = {Purpose.SESSIONS: (chain[1],)}
    assert refusal(chain, authorities, anchors=misfiled) is Refusal.WRONG_ISSUER
    twice = {Purpose.SESSIONS: (chain[1],), Purpose.DEVICES: (chain[1],)}
    assert refusal(chain, authorities, anchors=twice) is Refusal.WRONG_ISSUER


def test_old_and_new_anchors_overlap_in_a_rotation(authorities: Any) -> None:
    following = issue_intermediate(authorities.root, Purpose.DEVICES, "example.test", now=NOW)
    trust = authorities.trust.with_anchor(following.certificate)
    old = authorities.issue(DEVICE)
    new = issue_leaf(following, make_csr(new_private_key()), DEVICE, now=NOW, lifetime=DAY)
    for chain in (old.chain, [new, following.certificate]):
        assert name_of(chain, anchors=trust.anchors, domain="example.test", now=NOW) == DEVICE
    # The two have one subject; only the bytes and the signature tell them apart.
    assert refusal([new, old.chain[1]], authorities, anchors=trust.anchors) is Refusal.WRONG_ISSUER
    after = trust.without_anchor(old.chain[1])
    assert refusal(old.chain, authorities, anchors=after.anchors) is Refusal.WRONG_ISSUER


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uris": ()}, Refusal.NO_NAME),
        ({"uris": (str(GATEWAY), str(GATEWAY))}, Refusal.NO_NAME),
        ({"uris": (), "others": (x509.DNSName("edge.example.test"),)}, Refusal.NO_NAME),
        ({"uris": ("https://example.test/gateway/edge",)}, Refusal.BAD_NAME),
        ({"uris": ("spiffe://example.test/gateway/EDGE",)}, Refusal.BAD_NAME),
        ({"uris": ("spiffe://example.test",)}, Refusal.BAD_NAME),
        ({"others": (x509.RFC822Name("root@example.test"),)}, Refusal.BAD_NAME),
        ({"uris": (str(DEVICE),)}, Refusal.WRONG_KIND),
        ({"uris": (str(SESSION),)}, Refusal.WRONG_KIND),
        ({"uris": (str(DEVICE),), "others": (x509.DNSName("edge"),)}, Refusal.BAD_NAME),
        ({"uris": ("spiffe://other.test/gateway/edge",)}, Refusal.WRONG_DOMAIN),
        ({"end": NOW - SECOND}, Refusal.EXPIRED),
        ({"begin": NOW + SECOND}, Refusal.NOT_YET_VALID),
        ({"constraints": None}, Refusal.WRONG_USAGE),
        ({"constraints": x509.BasicConstraints(ca=True, path_length=0)}, Refusal.WRONG_USAGE),
        ({"usage": None}, Refusal.WRONG_USAGE),
        ({"usage": profile.CA_KEY_USAGE}, Refusal.WRONG_USAGE),
        ({"extended": ()}, Refusal.WRONG_USAGE),
        ({"extended": CLIENT_ONLY}, Refusal.WRONG_USAGE),
        ({"extended": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, Refusal.WRONG_USAGE),
        (
            {"extended": (*profile.EXTENDED_KEY_USAGE[Purpose.SERVICES], ExtendedKeyUsageOID.CODE_SIGNING)},
            Refusal.WRONG_USAGE,
        ),
        ({"extra": x509.InhibitAnyPolicy(0)}, Refusal.WRONG_USAGE),
        (
            {"extra": x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")},
            Refusal.WRONG_USAGE,
        ),
        ({"key": ec.generate_private_key(ec.SECP384R1()).public_key()}, Refusal.BAD_KEY),
        ({"key": rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()}, Refusal.BAD_KEY),
    ],
    ids=lambda value: str(value) if isinstance(value, Refusal) else "",
)
def test_a_properly_signed_certificate_that_is_wrong_in_one_way(
    authorities: Any, forge: Any, changes: Any, reason: Any
) -> None:
    issuer = authorities.issuers[Purpose.SERVICES]
    assert refusal([forge(**changes).sign(issuer), issuer.certificate], authorities) is reason


def test_the_forge_makes_good_certificates_when_nothing_is_wrong(authorities: Any, forge: Any) -> None:
    issuer = authorities.issuers[Purpose.SERVICES]
    chain = [forge().sign(issuer), issuer.certificate]
    assert name_of(chain, anchors=authorities.trust.anchors, domain="example.test", now=NOW) == GATEWAY


def test_a_session_intermediate_names_no_gateway(authorities: Any, forge: Any) -> None:
    issuer = authorities.issuers[Purpose.SESSIONS]
    chain = [forge(extended=CLIENT_ONLY).sign(issuer), issuer.certificate]
    assert refusal(chain, authorities) is Refusal.WRONG_KIND


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (-profile.CLOCK_SKEW - SECOND, Refusal.NOT_YET_VALID),
        (-profile.CLOCK_SKEW, None),
        (DAY, None),
        (DAY + timedelta(microseconds=1), Refusal.EXPIRED),
    ],
)
def test_validity_includes_both_ends(authorities: Any, moment: timedelta, reason: Refusal | None) -> None:
    chain = authorities.issue(GATEWAY, now=NOW).chain
    if reason is None:
        assert name_of(chain, anchors=authorities.trust.anchors, domain="example.test", now=NOW + moment) == GATEWAY
    else:
        assert refusal(chain, authorities, now=NOW + moment) is reason


def test_an_expired_anchor_proves_nothing(authorities: Any, forge: Any) -> None:
    issuer = authorities.issuers[Purpose.SERVICES]
    leaf = forge(end=NOW + 9999 * DAY).sign(issuer)
    assert refusal([leaf, issuer.certificate], authorities, now=NOW + 5000 * DAY) is Refusal.EXPIRED


def test_the_caller_says_which_domain(authorities: Any) -> None:
    assert refusal(authorities.issue(GATEWAY).chain, authorities, domain="other.test") is Refusal.WRONG_DOMAIN


def test_the_spoken_name_is_only_a_claim(others: Any) -> None:
    assert spoken_name(others.issue(DEVICE).leaf) == DEVICE


def test_the_pin_is_of_the_key_and_not_of_the_certificate(authorities: Any) -> None:
    first, second = authorities.root.certificate, authorities.issuers[Purpose.SERVICES].certificate
    assert len(spki_sha256(first)) == 32
    assert spki_sha256(first) == spki_sha256(
        x509.load_pem_x509_certificate(first.public_bytes(serialization.Encoding.PEM))
    )
    assert spki_sha256(first) != spki_sha256(second)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_certificates_are_refused_and_nothing_else_is_raised(authorities: Any, data: st.DataObject) -> None:
    good = DAMAGED.setdefault("leaf", authorities.issue(GATEWAY).leaf.public_bytes(serialization.Encoding.DER))
    bad = bytearray(good)
    place = data.draw(st.integers(0, len(bad) - 1))
    bad[place] ^= data.draw(st.integers(1, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a serial number that became negative
            leaf = x509.load_der_x509_certificate(bytes(bad))
    except (ValueError, x509.InvalidVersion):
        return
    whole = x509.load_der_x509_certificate(good)
    if (leaf.tbs_certificate_bytes, leaf.signature) == (whole.tbs_certificate_bytes, whole.signature):
        return  # the count of unused bits before the signature: nothing that is signed or read has changed
    assert refusal([leaf, authorities.issuers[Purpose.SERVICES].certificate], authorities) in set(Refusal)


DAMAGED: dict[str, bytes] = {}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_a_trusted_authority_signed_badly_is_refused_in_the_same_way(
    authorities: Any, forge: Any, data: Any
) -> None:
    """The bytes of every extension are the signer's, so a buggy signer must not become our exception."""
    oid, body = data.draw(
        st.tuples(
            st.sampled_from(["2.5.29.17", "2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.30", "2.5.29.54"]),
            st.binary(max_size=24),
        )
    )
    extra = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), body)
    issuer = authorities.issuers[Purpose.SERVICES]
    drop = {"2.5.29.17": {"uris": ()}, "2.5.29.19": {"constraints": None}, "2.5.29.15": {"usage": None}}
    changes = drop.get(oid, {"extended": ()} if oid == "2.5.29.37" else {})
    leaf = forge(extra=extra, **changes).sign(issuer)
    assert refusal([leaf, issuer.certificate], authorities) in set(Refusal)


def test_a_presented_anchor_is_compared_by_its_bytes(authorities: Any) -> None:
    leaf, signer, _root = authorities.issue(GATEWAY).chain
    again = x509.load_der_x509_certificate(signer.public_bytes(serialization.Encoding.DER))
    assert name_of([leaf, again], anchors=authorities.trust.anchors, domain="example.test", now=NOW) == GATEWAY
