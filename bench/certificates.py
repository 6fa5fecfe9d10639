"""What the peers need for mutual TLS: made like gloam's own (P-256, root, intermediate, leaf), in PEM files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.serialization import Encoding

from certs.identity import Identity
from certs.issue import Issuer, issue_intermediate, issue_leaf, issue_root, make_csr, new_private_key, private_key_pem
from certs.names import Name, NameKind, Purpose
from certs.trust import Trust

DOMAIN = "bench.test"


@dataclass(frozen=True, slots=True)
class PeerCertificates:
    """Files for the servers (`server`: chain and key, `authorities`: whom they trust), values for the client."""

    server: Path
    authorities: Path
    client: Identity
    trust: Trust


def make_certificates(directory: Path) -> PeerCertificates:
    """A root and one chain each for the servers and their client."""
    now = datetime.now(UTC)
    root = issue_root(DOMAIN, now=now)
    services, sessions = (
        issue_intermediate(root, each, DOMAIN, now=now) for each in (Purpose.SERVICES, Purpose.SESSIONS)
    )
    server = _identity(services, Name(DOMAIN, NameKind.GATEWAY, "peer"), now)
    client = _identity(sessions, Name(DOMAIN, NameKind.SESSION, str(uuid4())), now)
    chain, authorities = directory / "peer.pem", directory / "peer-ca.pem"
    chain.touch(mode=0o600)
    chain.write_bytes(server.chain_pem + server.key.reveal())
    trusted = (sessions.certificate, root.certificate)
    authorities.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in trusted))
    trust = Trust.of(root.certificate, [services.certificate, sessions.certificate])
    return PeerCertificates(chain, authorities, client, trust)


def _identity(issuer: Issuer, name: Name, now: datetime) -> Identity:
    key = new_private_key()
    leaf = issue_leaf(issuer, make_csr(key), name, now=now, lifetime=timedelta(hours=1))
    return Identity(private_key_pem(key), (leaf, issuer.certificate))
