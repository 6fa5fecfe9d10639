"""The laws of certs/proved.py."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certs.errors import BadCertificate
from certs.names import Name, Purpose
from certs.proved import Proof, Proved

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
SESSION = Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")


Chain = list[x509.Certificate]


def verified(identity: Any) -> Chain:
    return list(identity.chain[:2])


def name_of(known: Proved, chain: Chain, now: datetime) -> Proof:
    digests = tuple(each.fingerprint(hashes.SHA256()) for each in chain)
    return known.name_of(digests, lambda: chain, now)


def proved(authorities: Any, **options: Any) -> Proved:
    return Proved(authorities.trust.only(Purpose.SESSIONS), "example.test", **options)


def test_a_chain_proves_the_same_the_second_time_and_is_kept(authorities: Any) -> None:
    known, chain = proved(authorities), verified(authorities.issue(SESSION))
    first = name_of(known, chain, NOW)
    assert first.name == SESSION
    assert name_of(known, list(chain), NOW) is first
    assert len(known) == 1


@pytest.mark.parametrize("when", [NOW - timedelta(days=1), NOW + timedelta(days=1, seconds=1)])
def test_what_is_kept_is_out_of_date_when_its_certificate_is(authorities: Any, when: datetime) -> None:
    known, chain = proved(authorities), verified(authorities.issue(SESSION))
    name_of(known, chain, NOW)
    with pytest.raises(BadCertificate):
        name_of(known, chain, when)
    assert name_of(known, chain, NOW).name == SESSION


def test_a_refusal_is_not_kept(authorities: Any, others: Any) -> None:
    known = proved(authorities)
    for chain in (verified(authorities.issue(DEVICE)), verified(others.issue(SESSION))):
        for _ in range(2):
            with pytest.raises(BadCertificate):
                name_of(known, chain, NOW)
    assert len(known) == 0


def test_another_signer_is_another_chain(authorities: Any, others: Any) -> None:
    known = proved(authorities)
    leaf, signer = verified(authorities.issue(SESSION))
    name_of(known, [leaf, signer], NOW)
    with pytest.raises(BadCertificate):
        name_of(known, [leaf, verified(others.issue(SESSION))[1]], NOW)
    with pytest.raises(BadCertificate):
        name_of(known, [leaf], NOW)


def test_it_is_bounded(authorities: Any) -> None:
    known, chain = proved(authorities, most=2), verified(authorities.issue(SESSION))
    for _ in range(5):
        name_of(known, verified(authorities.issue(SESSION)), NOW)
        assert name_of(known, chain, NOW).name == SESSION
        assert len(known) <= 2


def test_a_chain_is_read_once(authorities: Any) -> None:
    known, chain = proved(authorities), verified(authorities.issue(SESSION))
    reads: list[Chain] = []

    def read() -> Chain:
        reads.append(chain)
        return chain

    for _ in range(3):
        known.name_of((b"leaf", b"signer"), read, NOW)
    assert len(reads) == 1
