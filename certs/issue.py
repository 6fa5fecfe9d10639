"""Issuing: keys, signing requests, the root, the intermediates and the leaves.

Laws:

1. A private key is made where it is used and never travels; a request proves its possession and nothing else.
2. Nothing of a request but its public key is believed: names, extensions and lifetimes are the issuer's.
3. An issuer signs only names of its own purpose and domain, and nothing that outlives it.
4. ``now`` is an argument; times are whole seconds in UTC, as X.509 writes them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs import profile
from certs.errors import BadCertificate, Refusal
from certs.names import SCHEME, Name, Purpose, parse_domain
from certs.secret import Secret

LARGEST_CSR: Final = 8 * 1024  # bytes; ours are under 400, and a parser should not meet more before it has a reason
_HOST_LABEL: Final = re.compile(r"\A[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")  # some container networks use "_"
_LONGEST_HOST: Final = 253


@dataclass(frozen=True)
class Issuer:
    """A certificate that may sign, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """A new ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    """The key as unencrypted PKCS#8 PEM."""
    return Secret(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def load_private_key(pem: Secret) -> ec.EllipticCurvePrivateKey:
    """The key written by :func:`private_key_pem`; :class:`BadCertificate` (bad_key) for anything else."""
    try:
        key = serialization.load_pem_private_key(pem.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate(Refusal.BAD_KEY, "the private key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate(Refusal.BAD_KEY, "the private key is not an ECDSA P-256 key")
    return key


def make_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request in PEM: an empty subject, the public key and the proof that the private one is held."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def issue_root(domain: str, *, now: datetime, lifetime: timedelta = profile.ROOT_LIFETIME) -> Issuer:
    """A new root for a trust domain, with its key. Its ``pathlen`` of 1 leaves room for the intermediates only."""
    key = new_private_key()
    subject = _authority_subject(parse_domain(domain), "root", None)
    begin, end = _validity(now, lifetime)
    builder = _authority(subject, domain, key.public_key(), path_length=1)
    certificate = builder.issuer_name(subject).not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256())
    return Issuer(certificate, key)


def issue_intermediate(
    root: Issuer,
    purpose: Purpose,
    domain: str,
    *,
    now: datetime,
    lifetime: timedelta = profile.INTERMEDIATE_LIFETIME,
) -> Issuer:
    """A new intermediate for one purpose, with its key; ``pathlen`` 0, so it signs leaves and nothing else."""
    key = new_private_key()
    return Issuer(_sign_intermediate(root, key.public_key(), purpose, domain, now=now, lifetime=lifetime), key)


def sign_intermediate(
    root: Issuer, csr_pem: bytes, purpose: Purpose, domain: str, *, now: datetime
) -> x509.Certificate:
    """The same over the key of a request: the root is kept elsewhere, and the key stays where it was made."""
    key = _key_of_request(csr_pem)
    return _sign_intermediate(root, key, purpose, domain, now=now, lifetime=profile.INTERMEDIATE_LIFETIME)


def _sign_intermediate(
    root: Issuer,
    key: ec.EllipticCurvePublicKey,
    purpose: Purpose,
    domain: str,
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    if profile.domain_of(root.certificate) != domain:
        raise BadCertificate(Refusal.WRONG_DOMAIN, f"this root is not the root of {domain}")
    begin, end = _validity(now, lifetime, within=root.certificate)
    return (
        _authority(_authority_subject(domain, purpose.value, purpose), domain, key, path_length=0)
        .issuer_name(root.certificate.subject)
        .add_extension(_authority_key_identifier(root), critical=False)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(root.key, hashes.SHA256())
    )


def issue_leaf(
    issuer: Issuer,
    csr_pem: bytes,
    name: Name,
    *,
    now: datetime,
    lifetime: timedelta,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """The certificate that gives ``name`` to the holder of the request's key.

    ``hosts`` are DNS names and IP addresses, for services only. The end is cut to the issuer's own. Raises
    :class:`BadCertificate` for a request, name, host or lifetime that cannot be signed.
    """
    purpose = profile.purpose_of(issuer.certificate)
    if name.purpose is not purpose:
        raise BadCertificate(Refusal.WRONG_PURPOSE, f"the {purpose} intermediate does not sign {name}")
    if profile.domain_of(issuer.certificate) != name.domain:
        raise BadCertificate(Refusal.WRONG_DOMAIN, f"the {purpose} intermediate is not one of {name.domain}")
    if hosts and purpose is not Purpose.SERVICES:
        raise BadCertificate(Refusal.BAD_HOST, f"a certificate for {purpose} has no host names")
    public_key = _key_of_request(csr_pem)
    begin, end = _validity(now, lifetime, within=issuer.certificate)
    names = [x509.UniformResourceIdentifier(str(name)), *(_host(host) for host in dict.fromkeys(hosts))]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        # RFC 5280 section 4.2.1.6: the SAN is critical when the subject is empty.
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(profile.LEAF_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(sorted(profile.EXTENDED_KEY_USAGE[purpose], key=_dotted)), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _key_of_request(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > LARGEST_CSR:
        raise BadCertificate(Refusal.BAD_CSR, f"the signing request is longer than {LARGEST_CSR} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadCertificate(Refusal.BAD_CSR, "the signing request cannot be read") from error
    public_key = profile.require_p256(key, "the signing request")
    if not request.is_signature_valid:
        raise BadCertificate(Refusal.BAD_CSR, "the signing request is not signed by its own key")
    return public_key


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    if len(text) > _LONGEST_HOST or not all(_HOST_LABEL.match(label) for label in text.split(".")):
        raise BadCertificate(Refusal.BAD_HOST, f"{text!a} is neither an address nor a host name in lowercase ASCII")
    return x509.DNSName(text)


def _validity(
    now: datetime, lifetime: timedelta, *, within: x509.Certificate | None = None
) -> tuple[datetime, datetime]:
    """From a little before ``now`` (see ``profile.CLOCK_SKEW``) to the end of the lifetime, inside the issuer's."""
    now = now.astimezone(UTC).replace(microsecond=0)
    if lifetime < timedelta(seconds=1):
        raise BadCertificate(Refusal.BAD_LIFETIME, "a certificate must live for at least a second")
    begin, end = now - profile.CLOCK_SKEW, now + lifetime
    if within is not None:
        begin, end = max(begin, within.not_valid_before_utc), min(end, within.not_valid_after_utc)
    if not begin <= now < end:
        raise BadCertificate(Refusal.EXPIRED, "the issuer's own certificate is not valid at this time")
    return begin, end


def _authority_subject(domain: str, title: str, purpose: Purpose | None) -> x509.Name:
    """DC=… for each label (RFC 4519: any domain fits), OU for the purpose, CN for people."""
    labels = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in reversed(domain.split("."))]
    unit = [x509.NameAttribute(profile.UNIT, purpose.value)] if purpose else []
    return x509.Name([*labels, *unit, x509.NameAttribute(NameOID.COMMON_NAME, f"gloam {title}")])


def _authority(
    subject: x509.Name, domain: str, key: ec.EllipticCurvePublicKey, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(profile.CA_KEY_USAGE, critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{SCHEME}{domain}")]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key_identifier(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _dotted(oid: x509.ObjectIdentifier) -> str:
    return oid.dotted_string
