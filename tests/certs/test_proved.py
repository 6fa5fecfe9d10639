"""The laws of certs/proved.py."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs.errors import BadCertificate
from certs.names import Name, Purpose
from certs.proved import Proved

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
SESSION = Name.parse("spiffe://example.test/session/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
DEVICE = Name.parse("spiffe://example.test/device/11111111-2222-3333-4444-555555555555")


def der(identity: Any) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in identity.chain[:2]]


def proved(authorities: Any, **options: Any) -> Proved:
    return Proved(authorities.trust.only(Purpose.SESSIONS), "example.test", **options)


def test_a_chain_proves_the_same_the_second_time_and_is_kept(authorities: Any) -> None:
    known, chain = proved(authorities), der(authorities.issue(SESSION))
    first = known.name_of(chain, NOW)
    assert first.name == SESSION
    assert known.name_of(list(chain), NOW) is first
    assert len(known) == 1


@pytest.mark.parametrize("when", [NOW - timedelta(days=1), NOW + timedelta(days=1, seconds=1)])
def test_what_is_kept_is_out_of_date_when_its_certificate_is(authorities: Any, when: datetime) -> None:
    known, chain = proved(authorities), der(authorities.issue(SESSION))
    known.name_of(chain, NOW)
    with pytest.raises(BadCertificate):
        known.name_of(chain, when)
    assert known.name_of(chain, NOW).name == SESSION


def test_a_refusal_is_not_kept(authorities: Any, others: Any) -> None:
    known = proved(authorities)
    for chain in (der(authorities.issue(DEVICE)), der(others.issue(SESSION))):
        for _ in range(2):
            with pytest.raises(BadCertificate):
                known.name_of(chain, NOW)
    assert len(known) == 0


def test_another_signer_is_another_chain(authorities: Any, others: Any) -> None:
    known = proved(authorities)
    leaf, signer = der(authorities.issue(SESSION))
    known.name_of([leaf, signer], NOW)
    with pytest.raises(BadCertificate):
        known.name_of([leaf, der(others.issue(SESSION))[1]], NOW)
    with pytest.raises(BadCertificate):
        known.name_of([leaf], NOW)


def test_it_is_bounded(authorities: Any) -> None:
    known, chain = proved(authorities, most=2), der(authorities.issue(SESSION))
    for _ in range(5):
        known.name_of(der(authorities.issue(SESSION)), NOW)
        assert known.name_of(chain, NOW).name == SESSION
        assert len(known) <= 2


def test_what_cannot_be_read_is_a_value_error(authorities: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        proved(authorities).name_of([b"no certificate", b"at all"], NOW)
