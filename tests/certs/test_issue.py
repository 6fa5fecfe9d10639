import base64
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from certs import profile
from certs.errors import BadCertificate, BadName, Refusal
from certs.issue import (
    LARGEST_CSR,
    Issuer,
    issue_intermediate,
    issue_leaf,
    issue_root,
    load_private_key,
    make_csr,
    new_private_key,
    private_key_pem,
)
from certs.names import Name, Purpose
from certs.secret import Secret

NOW = datetime(2025, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
GATEWAY = Name.parse("spiffe://example.test/gateway/edge")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")
SESSION = Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")


def san(certificate: x509.Certificate) -> x509.Extension[x509.SubjectAlternativeName]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def pem(builder: x509.CertificateSigningRequestBuilder, key: object) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


def refused(reason: Refusal, issuer: Issuer, csr: bytes, name: Name = GATEWAY, **changes: object) -> None:
    options = {"now": NOW, "lifetime": DAY, **changes}
    with pytest.raises(BadCertificate) as caught:
        issue_leaf(issuer, csr, name, **options)
    assert caught.value.reason is reason
    assert caught.value.fix


def test_a_key_reads_back() -> None:
    key = new_private_key()
    assert load_private_key(private_key_pem(key)).private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a key",
        *(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate())
        ),
        new_private_key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        ),
    ],
    ids=["empty", "text", "P-384", "Ed25519", "encrypted"],
)
def test_other_keys_are_refused(data: bytes) -> None:
    with pytest.raises(BadCertificate) as caught:
        load_private_key(Secret(data))
    assert caught.value.reason is Refusal.BAD_KEY


def test_an_issuer_hides_its_key(authorities: Any) -> None:
    assert "key" not in repr(authorities.root).replace("keyUsage", "")


@pytest.mark.parametrize("domain", ["example.test", "x", "a." * 120 + "example.test", "a" * 63])
def test_the_root_is_for_its_domain_whatever_its_length(domain: str) -> None:
    root = issue_root(domain, now=NOW).certificate
    root.verify_directly_issued_by(root)
    assert profile.domain_of(root) == domain
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=1)
    assert root.not_valid_after_utc == WHOLE + profile.ROOT_LIFETIME


def test_a_root_needs_a_trust_domain() -> None:
    with pytest.raises(BadName):
        issue_root("Example Test", now=NOW)


@pytest.mark.parametrize("purpose", Purpose)
def test_an_intermediate_signs_leaves_of_one_purpose(authorities: Any, purpose: Purpose) -> None:
    certificate = authorities.issuers[purpose].certificate
    certificate.verify_directly_issued_by(authorities.root.certificate)
    assert profile.purpose_of(certificate) is purpose
    assert profile.domain_of(certificate) == "example.test"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_an_intermediate_ends_with_its_root() -> None:
    root = issue_root("example.test", now=NOW, lifetime=DAY)
    short = issue_intermediate(root, Purpose.DEVICES, "example.test", now=NOW)
    assert short.certificate.not_valid_after_utc == WHOLE + DAY


def test_an_intermediate_is_of_the_domain_of_its_root(authorities: Any) -> None:
    with pytest.raises(BadCertificate) as caught:
        issue_intermediate(authorities.root, Purpose.DEVICES, "other.test", now=NOW)
    assert caught.value.reason is Refusal.WRONG_DOMAIN


@pytest.mark.parametrize("name", [GATEWAY, DEVICE, SESSION], ids=lambda name: name.kind.value)
def test_a_leaf_says_who_and_for_what(authorities: Any, name: Name) -> None:
    key = new_private_key()
    leaf = issue_leaf(authorities.issuers[name.purpose], make_csr(key), name, now=NOW, lifetime=DAY)
    assert leaf.public_key() == key.public_key()
    assert list(leaf.subject) == []
    assert san(leaf).critical
    assert list(san(leaf).value) == [x509.UniformResourceIdentifier(str(name))]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == profile.EXTENDED_KEY_USAGE[name.purpose]
    assert leaf.not_valid_before_utc == WHOLE - profile.CLOCK_SKEW
    assert leaf.not_valid_after_utc == WHOLE + DAY
    assert profile.renewal_due(leaf, name.purpose) == WHOLE + DAY * profile.RENEWED_AT[name.purpose]


def test_times_of_other_zones_mean_the_same_instant(authorities: Any) -> None:
    paris = NOW.astimezone(timezone(timedelta(hours=2)))
    leaf = issue_leaf(
        authorities.issuers[Purpose.SERVICES], make_csr(new_private_key()), GATEWAY, now=paris, lifetime=DAY
    )
    assert leaf.not_valid_after_utc == WHOLE + DAY


def test_hosts_of_a_service_become_names_and_addresses_once_each(authorities: Any) -> None:
    hosts = ["127.0.0.1", "::1", "localhost", "gw_1.example.test", "localhost"]
    leaf = issue_leaf(
        authorities.issuers[Purpose.SERVICES], make_csr(new_private_key()), GATEWAY, now=NOW, lifetime=DAY, hosts=hosts
    )
    found = san(leaf).value
    assert [str(each) for each in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert found.get_values_for_type(x509.DNSName) == ["localhost", "gw_1.example.test"]
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == [str(GATEWAY)]


def test_nothing_else_of_the_request_is_believed(authorities: Any) -> None:
    key = new_private_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "controller")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("spiffe://example.test/controller/main"), x509.DNSName("bank.test")]
            ),
            critical=False,
        )
    )
    leaf = issue_leaf(authorities.issuers[Purpose.DEVICES], pem(request, key), DEVICE, now=NOW, lifetime=DAY)
    assert list(leaf.subject) == []
    assert list(san(leaf).value) == [x509.UniformResourceIdentifier(str(DEVICE))]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


EMPTY = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))


@pytest.mark.parametrize(
    ("csr", "reason"),
    [
        (b"", Refusal.BAD_CSR),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", Refusal.BAD_CSR),
        (make_csr(new_private_key()) + b"\n" * LARGEST_CSR, Refusal.BAD_CSR),
        (pem(EMPTY, ec.generate_private_key(ec.SECP384R1())), Refusal.BAD_KEY),
        (pem(EMPTY, ed25519.Ed25519PrivateKey.generate()), Refusal.BAD_KEY),
        (pem(EMPTY, rsa.generate_private_key(public_exponent=65537, key_size=2048)), Refusal.BAD_KEY),
    ],
    ids=["empty", "garbage", "too long", "P-384", "Ed25519", "RSA"],
)
def test_requests_that_cannot_be_signed(authorities: Any, csr: bytes, reason: Refusal) -> None:
    refused(reason, authorities.issuers[Purpose.SERVICES], csr)


def test_a_request_must_be_signed_by_its_own_key(authorities: Any) -> None:
    request = x509.load_pem_x509_csr(make_csr(new_private_key()))
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    spki = request.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    other = new_private_key().public_key()
    der = bytes(der).replace(
        spki, other.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    stolen = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)
    refused(Refusal.BAD_CSR, authorities.issuers[Purpose.SERVICES], stolen)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_bytes_make_the_issuer_raise_anything_else(authorities: Any, data: st.DataObject) -> None:
    good = bytearray(x509.load_pem_x509_csr(CSR).public_bytes(serialization.Encoding.DER))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=4)):
        good[place] = value
    text = base64.encodebytes(bytes(good))
    csr = b"-----BEGIN CERTIFICATE REQUEST-----\n" + text + b"-----END CERTIFICATE REQUEST-----\n"
    # An untouched request (no edits drawn, or edits that change nothing) is the only one that may be signed.
    whole = bytes(good) == x509.load_pem_x509_csr(CSR).public_bytes(serialization.Encoding.DER)
    with nullcontext() if whole else pytest.raises(BadCertificate):
        issue_leaf(authorities.issuers[Purpose.SERVICES], csr, GATEWAY, now=NOW, lifetime=DAY)


CSR = make_csr(new_private_key())


@pytest.mark.parametrize(
    ("purpose", "name", "changes", "reason"),
    [
        (Purpose.DEVICES, GATEWAY, {}, Refusal.WRONG_PURPOSE),
        (Purpose.SERVICES, DEVICE, {}, Refusal.WRONG_PURPOSE),
        (Purpose.DEVICES, SESSION, {}, Refusal.WRONG_PURPOSE),
        (Purpose.SERVICES, Name.parse("spiffe://other.test/gateway/edge"), {}, Refusal.WRONG_DOMAIN),
        (Purpose.DEVICES, DEVICE, {"hosts": ["localhost"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": ["*.example.test"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": [""]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": ["a\n"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": ["UPPER.test"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": ["bücher.test"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"hosts": ["a." * 127 + "a"]}, Refusal.BAD_HOST),
        (Purpose.SERVICES, GATEWAY, {"lifetime": timedelta()}, Refusal.BAD_LIFETIME),
        (Purpose.SERVICES, GATEWAY, {"lifetime": -DAY}, Refusal.BAD_LIFETIME),
        (Purpose.SERVICES, GATEWAY, {"now": NOW + 2000 * DAY}, Refusal.EXPIRED),
        (Purpose.SERVICES, GATEWAY, {"now": NOW - DAY}, Refusal.EXPIRED),
    ],
)
def test_an_issuer_keeps_to_its_purpose_domain_and_time(
    authorities: Any, purpose: Any, name: Any, changes: Any, reason: Any
) -> None:
    refused(reason, authorities.issuers[purpose], CSR, name, **changes)


def test_the_root_signs_no_leaves(authorities: Any) -> None:
    refused(Refusal.WRONG_PURPOSE, authorities.root, CSR)


def test_a_leaf_ends_with_its_issuer(authorities: Any) -> None:
    issuer = authorities.issuers[Purpose.DEVICES]
    leaf = issue_leaf(issuer, CSR, DEVICE, now=NOW, lifetime=9999 * DAY)
    assert leaf.not_valid_after_utc == issuer.certificate.not_valid_after_utc
