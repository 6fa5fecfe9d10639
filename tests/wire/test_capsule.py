"""`wire/capsule.py`."""

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.capsule import BadCapsule, CapsuleReader, decode_varint, encode_datagram, encode_varint
from wire.limits import MAX_DATAGRAM, MAX_UDP_PAYLOAD

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "capsules.json").read_text())
STREAMS = {each["name"]: each for each in VECTORS["streams"]}
LARGEST = (1 << 62) - 1


def read(*chunks: bytes, most: int = 64) -> tuple[list[bytes], CapsuleReader]:
    """Everything the chunks complete."""
    reader, payloads = CapsuleReader(), []
    for chunk in chunks:
        reader.feed(chunk)
        again = True
        while again:
            some, again = reader.take(most)
            payloads += some
    return payloads, reader


@pytest.mark.parametrize("case", VECTORS["integers"], ids=lambda each: f"{each['from']} {each['bytes']}")
def test_integers_are_those_of_rfc_9000(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    assert decode_varint(data) == (case["value"], len(data))
    assert (encode_varint(case["value"]) == data) is case["shortest"]
    assert all(decode_varint(data[:short]) is None for short in range(len(data)))


@given(value=st.integers(0, LARGEST), before=st.binary(max_size=4), behind=st.binary(max_size=4))
def test_an_integer_is_read_where_it_stands(value: int, before: bytes, behind: bytes) -> None:
    data = encode_varint(value)
    assert decode_varint(before + data + behind, len(before)) == (value, len(before) + len(data))


@pytest.mark.parametrize("value", [-1, LARGEST + 1])
def test_what_is_no_such_integer(value: int) -> None:
    with pytest.raises(ValueError, match="variable-length"):
        encode_varint(value)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("bytewise", [False, True])
def test_streams(name: str, *, bytewise: bool) -> None:
    case = STREAMS[name]
    data = bytes.fromhex(case["bytes"])
    chunks = [bytes([byte]) for byte in data] if bytewise else [data]
    if "refused" in case:
        with pytest.raises(BadCapsule, match=case["refused"]):
            read(*chunks)
        return
    payloads, reader = read(*chunks)
    assert payloads == [bytes.fromhex(each) for each in case["payloads"]]
    assert (reader.skipped, reader.oversized) == (case.get("skipped", 0), case.get("oversized", 0))
    assert reader.unfinished is case.get("unfinished", False)


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=20), cuts=st.lists(st.integers(0, 7000)), most=st.integers(1, 8)
)
def test_datagrams_survive_any_chunking(payloads: list[bytes], cuts: list[int], most: int) -> None:
    data = b"".join(map(encode_datagram, payloads))
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found, reader = read(*(data[start:end] for start, end in pairwise(edges)), most=most)
    assert found == payloads
    assert not reader.unfinished


@pytest.mark.parametrize("size", [0, 1, 62, 63, 16_382, 16_383, MAX_DATAGRAM])
def test_every_size_we_carry_arrives(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert read(encode_datagram(payload))[0] == [payload]


@pytest.mark.parametrize("size", [MAX_DATAGRAM + 1, MAX_UDP_PAYLOAD])
def test_larger_ones_are_skipped_whole(size: int) -> None:
    payloads, reader = read(encode_datagram(bytes(size)) + encode_datagram(b"next"))
    assert (payloads, reader.oversized, reader.unfinished) == ([b"next"], 1, False)


def test_what_no_udp_header_describes_is_not_written() -> None:
    with pytest.raises(ValueError, match="65527"):
        encode_datagram(bytes(MAX_UDP_PAYLOAD + 1))


def test_a_flood_of_tiny_capsules_comes_in_portions() -> None:
    reader = CapsuleReader()
    reader.feed(b"\x17\x00" * 10 + encode_datagram(b"") * 10)
    taken = [reader.take(8) for _ in range(3)]
    assert [(len(payloads), again) for payloads, again in taken] == [(0, True), (6, True), (4, False)]
    assert reader.skipped == 10


@given(chunks=st.lists(st.one_of(st.binary(max_size=64), st.sampled_from([b"\x00", b"\x00\x04\x00ab", b"\xff" * 8]))))
def test_whatever_comes_is_bounded(chunks: list[bytes]) -> None:
    reader = CapsuleReader()
    came = 0
    try:
        for chunk in chunks:
            reader.feed(chunk)
            came += len(chunk)
            again = True
            while again:
                payloads, again = reader.take(4)
                assert all(len(each) <= MAX_DATAGRAM for each in payloads)
            assert len(reader._held) <= min(came, MAX_DATAGRAM + 24)
    except BadCapsule as error:
        assert str(error)  # noqa: PT017 - either is good


def test_a_length_is_a_promise_that_costs_nothing() -> None:
    reader = CapsuleReader()
    tracemalloc.start()
    try:
        reader.feed(b"\x17" + encode_varint(LARGEST))
        for _ in range(256):
            reader.feed(bytes(65_536))
            assert reader.take(64) == ([], False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert reader.unfinished
