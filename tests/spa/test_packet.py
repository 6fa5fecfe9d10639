import json
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.names import Name, NameKind
from certs.secret import Secret
from spa.errors import DropReason, PacketError
from spa.limits import MAX_DATAGRAM, MIN_DATAGRAM
from spa.packet import (
    Knock,
    KnockKey,
    KnockKind,
    derive_key,
    encode,
    epoch_of,
    locator,
    open_knock,
    plain_address,
)

KEY = KnockKey(bytes(range(32)), bytes(range(32, 64)))
VECTORS = Path(__file__).parent.parent / "vectors" / "knock.json"

addresses = st.one_of(
    st.none(),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6).filter(lambda address: int(address) and plain_address(address) == address),
)
sessions = st.uuids(allow_nil=False)


@st.composite
def knocks(draw: st.DrawFn) -> Knock:
    kind = draw(st.sampled_from(KnockKind))
    session = draw(sessions) if kind is KnockKind.TUNNEL else None
    return Knock(kind, draw(st.integers(0, 2**64 - 1)), session, draw(addresses), draw(st.integers(1, 65535)))


@given(knocks(), st.binary(min_size=12, max_size=12), st.binary(max_size=96))
def test_what_is_encoded_opens_to_the_same(knock: Knock, nonce: bytes, pad: bytes) -> None:
    datagram = encode(knock, KEY, nonce=nonce, pad=pad)
    assert len(datagram) == MIN_DATAGRAM + len(pad)
    assert datagram[:16] == locator(KEY, epoch_of(knock.time_us))
    assert open_knock(datagram, KEY) == knock


@given(knocks(), st.binary(max_size=96), st.data())
def test_one_changed_bit_does_not_open(knock: Knock, pad: bytes, data: st.DataObject) -> None:
    datagram = bytearray(encode(knock, KEY, nonce=bytes(12), pad=pad))
    datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PacketError) as refused:
        open_knock(bytes(datagram), KEY)
    assert refused.value.reason is DropReason.OPEN


@given(st.binary(max_size=300))
def test_noise_never_opens(noise: bytes) -> None:
    with pytest.raises(PacketError) as refused:
        open_knock(noise, KEY)
    fits = MIN_DATAGRAM <= len(noise) <= MAX_DATAGRAM
    assert refused.value.reason is (DropReason.OPEN if fits else DropReason.LENGTH)


def test_the_vectors_are_what_the_reference_makes(reference: ModuleType) -> None:
    assert json.loads(VECTORS.read_text()) == reference.document()


@given(knock=knocks(), nonce=st.binary(min_size=12, max_size=12), pad=st.binary(max_size=96))
def test_every_datagram_is_the_references_to_the_byte(
    reference: ModuleType, knock: Knock, nonce: bytes, pad: bytes
) -> None:
    source = knock.source
    packed = bytes(16) if source is None else source.packed
    theirs = reference.knock(
        kind=int(knock.kind),
        at=knock.time_us,
        session=knock.session.bytes if knock.session else bytes(16),
        source=bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed,
        port=knock.port,
        pad=pad,
        nonce=nonce,
    )
    key = derive_key(Secret(reference.SECRET), Name.parse(reference.SERVER))
    assert encode(knock, key, nonce=nonce, pad=pad) == theirs


def test_the_reference_keeps_its_rfcs(reference: ModuleType) -> None:
    # RFC 8439 section 2.8.2
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = reference.seal(bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"), text, aad)
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    # RFC 5869 appendix A.1
    derived = reference.hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert derived.hex().startswith("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")


def test_a_key_serves_one_server_only() -> None:
    secret = Secret(bytes(32))
    edge, other = (derive_key(secret, Name("example.test", NameKind.GATEWAY, name)) for name in ("edge", "other"))
    knock = Knock(KnockKind.CONTROL, 1, None, None, 443)
    with pytest.raises(PacketError):
        open_knock(encode(knock, edge, nonce=bytes(12), pad=b""), other)


def test_two_epochs_share_no_locator() -> None:
    assert epoch_of(900_000_000 - 1) == 0
    assert epoch_of(900_000_000) == 1
    assert len({locator(KEY, epoch) for epoch in range(-2, 1000)}) == 1002


def test_keys_travel_as_64_bytes_and_hide_in_repr() -> None:
    assert KnockKey.from_bytes(KEY.to_bytes()) == KEY
    assert repr(KEY) == "KnockKey()"
    for wrong in (b"", bytes(63), bytes(65)):
        with pytest.raises(ValueError, match="twice 32"):
            KnockKey.from_bytes(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        (KnockKind.TUNNEL, 1, None, None, 443),
        (KnockKind.TUNNEL, 1, UUID(int=0), None, 443),
        (KnockKind.CONTROL, 1, UUID(int=1), None, 443),
        (KnockKind.CONTROL, -1, None, None, 443),
        (KnockKind.CONTROL, 2**64, None, None, 443),
        (KnockKind.CONTROL, 1, None, None, 0),
        (KnockKind.CONTROL, 1, None, None, 65536),
    ],
)
def test_a_knock_that_cannot_be_is_not_made(fields: tuple[KnockKind, int, UUID | None, None, int]) -> None:
    with pytest.raises(ValueError, match="knock"):
        Knock(*fields)


@pytest.mark.parametrize(("nonce", "pad"), [(11, 0), (13, 0), (12, 97)])
def test_wrong_lengths_of_nonce_and_padding_are_refused(nonce: int, pad: int) -> None:
    with pytest.raises(ValueError, match="nonce"):
        encode(Knock(KnockKind.CONTROL, 1, None, None, 443), KEY, nonce=bytes(nonce), pad=bytes(pad))


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.1")),
        (IPv6Address("::ffff:192.0.2.1"), IPv4Address("192.0.2.1")),
        (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::1")),
        (IPv6Address("fe80::1%eth0"), IPv6Address("fe80::1")),
    ],
)
def test_an_address_has_one_form(address: IPv6Address, plain: IPv4Address) -> None:
    assert plain_address(address) == plain


def test_a_source_travels_in_its_one_form() -> None:
    for address in (IPv6Address("::ffff:192.0.2.1"), IPv6Address("fe80::1%eth0")):
        knock = Knock(KnockKind.CONTROL, 1, None, address, 443)
        assert open_knock(encode(knock, KEY, nonce=bytes(12), pad=b""), KEY).source == plain_address(address)
