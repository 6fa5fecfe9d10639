import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs import profile
from certs.errors import BadCertificate, Refusal
from certs.issue import Issuer, issue_intermediate, new_private_key
from certs.names import Name, Purpose
from certs.trust import LARGEST_BUNDLE, Trust
from certs.verify import name_of, spki_sha256

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CONTROLLER = Name.parse("spiffe://example.test/controller/main")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")
DOMAIN_URI = "spiffe://example.test"


def authority(
    signer: Issuer | None,
    *,
    uri: str | None = DOMAIN_URI,
    unit: str | None = "services",
    path_length: int | None = 0,
    usage: x509.KeyUsage | None = profile.CA_KEY_USAGE,
    curve: ec.EllipticCurve | None = None,
) -> x509.Certificate:
    """A CA certificate that may be wrong in one way; without a signer it signs itself."""
    key = new_private_key() if curve is None else ec.generate_private_key(curve)
    attributes = [x509.NameAttribute(profile.UNIT, unit)] if unit is not None else []
    subject = x509.Name([*attributes, x509.NameAttribute(x509.NameOID.COMMON_NAME, "forged")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 100 * DAY)
        .add_extension(x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True)
    )
    if uri is not None:
        names = [x509.UniformResourceIdentifier(each) for each in uri.split()]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(signer.key if signer else key, hashes.SHA256())


def refusal(root: x509.Certificate, *intermediates: x509.Certificate) -> Refusal:
    with pytest.raises(BadCertificate) as caught:
        Trust.of(root, intermediates)
    return caught.value.reason


def test_a_bundle_reads_back(authorities: Any) -> None:
    pem = authorities.trust.to_pem()
    assert Trust.from_pem(pem) == authorities.trust
    assert Trust.from_pem(pem).domain == "example.test"
    assert pem.count(b"BEGIN CERTIFICATE") == 4


def test_purposes_are_read_from_the_certificates_and_not_from_their_order(authorities: Any) -> None:
    shuffled = reversed(authorities.trust.intermediates())
    assert Trust.of(authorities.root.certificate, shuffled).anchors == authorities.trust.anchors


def test_a_purpose_may_have_several_anchors_or_none(authorities: Any) -> None:
    following = issue_intermediate(authorities.root, Purpose.DEVICES, "example.test", now=NOW).certificate
    both = authorities.trust.with_anchor(following).with_anchor(following)
    assert len(both.anchors[Purpose.DEVICES]) == 2
    assert Trust.from_pem(both.to_pem()) == both
    assert both.without_anchor(following) == authorities.trust
    assert Trust.of(authorities.root.certificate, []).only(Purpose.DEVICES) == {Purpose.DEVICES: ()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unit": None}, Refusal.WRONG_PURPOSE),
        ({"unit": "everything"}, Refusal.WRONG_PURPOSE),
        ({"uri": None}, Refusal.NO_NAME),
        ({"uri": f"{DOMAIN_URI} {DOMAIN_URI}"}, Refusal.NO_NAME),
        ({"uri": "spiffe://other.test"}, Refusal.WRONG_DOMAIN),
        ({"uri": "spiffe://Example.test"}, Refusal.BAD_NAME),
        ({"uri": "spiffe://example.test/"}, Refusal.BAD_NAME),
        ({"uri": "https://example.test"}, Refusal.BAD_NAME),
        ({"path_length": 1}, Refusal.WRONG_USAGE),
        ({"path_length": None}, Refusal.WRONG_USAGE),
        ({"usage": None}, Refusal.WRONG_USAGE),
        ({"usage": profile.LEAF_KEY_USAGE}, Refusal.WRONG_USAGE),
        ({"curve": ec.SECP384R1()}, Refusal.BAD_KEY),
    ],
)
def test_an_intermediate_that_is_wrong_in_one_way(authorities: Any, changes: Any, reason: Any) -> None:
    assert refusal(authorities.root.certificate, authority(authorities.root, **changes)) is reason


def test_an_intermediate_of_another_root(authorities: Any, others: Any) -> None:
    stranger = others.issuers[Purpose.SERVICES].certificate
    assert refusal(authorities.root.certificate, stranger) is Refusal.WRONG_ISSUER


def test_a_root_signs_itself_and_is_limited(authorities: Any) -> None:
    intermediate = authorities.issuers[Purpose.SERVICES].certificate
    assert refusal(intermediate) is Refusal.WRONG_ISSUER
    assert refusal(authority(None, path_length=5)) is Refusal.WRONG_USAGE
    good = authority(None, path_length=1, unit=None)
    assert Trust.of(good, []).domain == "example.test"


def test_a_trust_cannot_be_made_wrong_either(authorities: Any) -> None:
    devices = authorities.trust.only(Purpose.DEVICES)[Purpose.DEVICES]
    with pytest.raises(BadCertificate) as misfiled:
        Trust("example.test", authorities.root.certificate, {Purpose.SESSIONS: devices})
    assert misfiled.value.reason is Refusal.WRONG_PURPOSE
    with pytest.raises(BadCertificate) as misnamed:
        Trust("other.test", authorities.root.certificate, {})
    assert misnamed.value.reason is Refusal.WRONG_DOMAIN


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no certificates",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"\n" * (LARGEST_BUNDLE + 1),
    ],
    ids=["empty", "text", "garbage", "too long"],
)
def test_bundles_that_cannot_be_read(pem: bytes) -> None:
    with pytest.raises(BadCertificate) as caught:
        Trust.from_pem(pem)
    assert caught.value.reason is Refusal.MALFORMED


@settings(max_examples=200, deadline=None)
@given(place=st.integers(min_value=0), value=st.integers(0, 255))
@example(place=332, value=47)  # the type of the root's key becomes one that nobody knows
def test_a_damaged_bundle_is_refused_and_nothing_else_is_raised(authorities: Any, place: int, value: int) -> None:
    pem = bytearray(authorities.trust.to_pem())
    pem[place % len(pem)] = value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a serial number that became negative
            trust = Trust.from_pem(bytes(pem))
    except BadCertificate:
        return
    # What still reads is the same trust, or one that lost an anchor with the frame of its PEM.
    assert trust.root == authorities.root.certificate
    assert set(trust.intermediates()) <= set(authorities.trust.intermediates())


def test_a_pin_finds_the_services_of_its_root(authorities: Any) -> None:
    chain = authorities.issue(CONTROLLER).chain
    trust = Trust.pinned(chain, spki_sha256(authorities.root.certificate), now=NOW)
    assert trust.domain == "example.test"
    assert trust.only(Purpose.SERVICES) == authorities.trust.only(Purpose.SERVICES)
    assert name_of(chain, anchors=trust.anchors, domain=trust.domain, now=NOW, server=True) == CONTROLLER


def test_a_pin_makes_no_other_purpose_trusted(authorities: Any) -> None:
    device = authorities.issue(DEVICE)
    trust = Trust.pinned(device.chain, spki_sha256(authorities.root.certificate), now=NOW)
    assert trust.intermediates() == ()
    with pytest.raises(BadCertificate):
        name_of(device.chain, anchors=trust.anchors, domain="example.test", now=NOW)


def test_a_pin_is_not_met_by_others(authorities: Any, others: Any) -> None:
    pin = spki_sha256(authorities.root.certificate)
    leaf, services, root = others.issue(CONTROLLER).chain
    for presented in ([], [leaf], [leaf, services], [leaf, services, root], [authorities.root.certificate]):
        with pytest.raises(BadCertificate) as caught:
            Trust.pinned(presented, pin, now=NOW)
        assert caught.value.reason is Refusal.WRONG_PIN


def test_presenting_the_pinned_root_beside_another_chain_helps_nobody(authorities: Any, others: Any) -> None:
    leaf, services, _root = others.issue(CONTROLLER).chain
    presented = [leaf, services, authorities.root.certificate]
    with pytest.raises(BadCertificate) as caught:
        Trust.pinned(presented, spki_sha256(authorities.root.certificate), now=NOW)
    assert caught.value.reason is Refusal.WRONG_ISSUER


def test_an_expired_root_is_not_pinned(authorities: Any) -> None:
    chain = authorities.issue(CONTROLLER).chain
    with pytest.raises(BadCertificate) as caught:
        Trust.pinned(chain, spki_sha256(authorities.root.certificate), now=NOW + 9999 * DAY)
    assert caught.value.reason is Refusal.EXPIRED


def test_bundles_are_pem_of_the_certificates(authorities: Any) -> None:
    expected = [authorities.root.certificate, *authorities.trust.intermediates()]
    assert authorities.trust.to_pem() == b"".join(each.public_bytes(Encoding.PEM) for each in expected)


def later(authorities: Any, days: int, purpose: Purpose = Purpose.SERVICES) -> x509.Certificate:
    return issue_intermediate(authorities.root, purpose, "example.test", now=NOW + days * DAY).certificate


def test_only_a_newer_intermediate_of_the_purpose_and_the_root_counts_besides(authorities: Any, others: Any) -> None:
    trust = authorities.trust
    held = trust.anchors[Purpose.SERVICES]
    new = later(authorities, 1)
    assert trust.accepting(new, Purpose.SERVICES) == {Purpose.SERVICES: (*held, new)}
    for refused in (later(others, 1), later(authorities, 1, Purpose.DEVICES), later(authorities, 0), held[0]):
        assert trust.accepting(refused, Purpose.SERVICES) == {Purpose.SERVICES: held}
    leaf = authorities.issue(CONTROLLER).leaf
    assert trust.accepting(leaf, Purpose.SERVICES) == {Purpose.SERVICES: held}


def test_what_was_taken_back_does_not_return(authorities: Any) -> None:
    old, new = authorities.trust.anchors[Purpose.SERVICES][0], later(authorities, 1)
    trust = authorities.trust.with_anchor(new).without_anchor(old)
    assert trust.accepting(old, Purpose.SERVICES) == {Purpose.SERVICES: (new,)}
    assert trust.without_anchor(new).accepting(new, Purpose.SERVICES) == {Purpose.SERVICES: ()}


def test_a_trust_is_succeeded_by_one_of_its_root_and_no_other(authorities: Any, others: Any) -> None:
    new = authorities.trust.with_anchor(later(authorities, 1))
    assert authorities.trust.succeeded_by(new.to_pem()) == new
    for pem in (others.trust.to_pem(), b"", new.to_pem() * 40):
        with pytest.raises(BadCertificate):
            authorities.trust.succeeded_by(pem)
