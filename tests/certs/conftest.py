"""A perimeter's authorities, made once, and a forge for certificates that are wrong in one way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certs import profile
from certs.identity import Identity
from certs.issue import (
    Issuer,
    issue_intermediate,
    issue_leaf,
    issue_root,
    make_csr,
    new_private_key,
    private_key_pem,
)
from certs.names import Name, Purpose
from certs.trust import Trust

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
DOMAIN = "example.test"
GATEWAY = Name.parse("spiffe://example.test/gateway/edge")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")
SESSION = Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")


@dataclass(frozen=True)
class Authorities:
    root: Issuer
    issuers: dict[Purpose, Issuer]
    trust: Trust

    def issue(self, name: Name, **changes: object) -> Identity:
        key = new_private_key()
        issuer = self.issuers[name.purpose]
        options = {"now": NOW, "lifetime": timedelta(days=1), **changes}
        leaf = issue_leaf(issuer, make_csr(key), name, **options)
        return Identity(private_key_pem(key), (leaf, issuer.certificate, self.root.certificate))


def make_authorities(domain: str = DOMAIN) -> Authorities:
    root = issue_root(domain, now=NOW)
    issuers = {purpose: issue_intermediate(root, purpose, domain, now=NOW) for purpose in Purpose}
    return Authorities(root, issuers, Trust.of(root.certificate, [each.certificate for each in issuers.values()]))


@pytest.fixture(scope="session")
def authorities() -> Authorities:
    return make_authorities()


@pytest.fixture(scope="session")
def others() -> Authorities:
    """Another perimeter that happens to use the same trust domain."""
    return make_authorities()


@dataclass(frozen=True)
class Forged:
    """A leaf, described by what stands in it; the defaults are those of a good certificate of the gateway."""

    uris: Sequence[str] = (str(GATEWAY),)
    others: Sequence[x509.GeneralName] = ()
    begin: datetime = NOW - timedelta(minutes=1)
    end: datetime = NOW + timedelta(days=1)
    constraints: x509.BasicConstraints | None = x509.BasicConstraints(ca=False, path_length=None)  # noqa: RUF009 - a value
    usage: x509.KeyUsage | None = profile.LEAF_KEY_USAGE
    extended: Sequence[x509.ObjectIdentifier] = tuple(profile.EXTENDED_KEY_USAGE[Purpose.SERVICES])
    extra: x509.ExtensionType | None = None
    key: object = None

    def sign(self, issuer: Issuer) -> x509.Certificate:
        key = self.key or new_private_key().public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
        )
        if names := [*(x509.UniformResourceIdentifier(uri) for uri in self.uris), *self.others]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if self.extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.extended), critical=False)
        for extension in (self.constraints, self.usage, self.extra):
            if extension is not None:
                builder = builder.add_extension(extension, critical=True)
        return builder.sign(issuer.key, hashes.SHA256())


@pytest.fixture(scope="session")
def forge() -> Callable[..., Forged]:
    return Forged
