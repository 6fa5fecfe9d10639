"""The laws of chain.py, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.secret import Secret
from controller.audit import chain
from controller.audit.chain import Chain, ChainCheck, Finding, Record, Tip, Witness

KEY = Secret(b"k" * 32)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHAIN = Chain(UUID(int=7), 3, "main", NOW)


def records(count: int, key: Secret = KEY, beginning: Chain = CHAIN) -> list[Record]:
    tip, made = chain.beginning(key, beginning), []
    for number in range(count):
        made.append(
            chain.next_record(
                key,
                beginning.id,
                tip,
                at=NOW + timedelta(seconds=number),
                kind="change.made",
                event=f'{{"n":{number}}}',
            )
        )
        tip = chain.tip_of(made[-1])
    return made


def found(given: list[Record], length: int, tip: Tip, *witnesses: Witness, key: Secret = KEY) -> Finding | None:
    check = ChainCheck(key, CHAIN, witnesses)
    for record in given:
        check.add(record)
    return check.finish(length, chain.head(KEY, CHAIN.id, tip))


FIVE = records(5)
END = chain.tip_of(FIVE[-1])


def test_what_was_written_is_intact() -> None:
    assert found(FIVE, 5, END) is None
    assert found([], 0, chain.beginning(KEY, CHAIN)) is None


@pytest.mark.parametrize(
    ("name", "given_records", "seq", "why"),
    [
        ("text", [*FIVE[:2], replace(FIVE[2], event='{"n":9}'), *FIVE[3:]], 3, "was changed"),
        ("time", [*FIVE[:2], replace(FIVE[2], at=NOW), *FIVE[3:]], 3, "was changed"),
        ("kind", [*FIVE[:2], replace(FIVE[2], kind="x"), *FIVE[3:]], 3, "was changed"),
        ("mac", [*FIVE[:2], replace(FIVE[2], mac=bytes(32)), *FIVE[3:]], 3, "was changed"),
        ("removed", [*FIVE[:2], *FIVE[3:]], 3, "is missing"),
        ("first removed", FIVE[1:], 1, "is missing"),
        ("renumbered", [*FIVE[:2], *(replace(each, seq=each.seq - 1) for each in FIVE[3:])], 3, "was changed"),
        ("swapped", [FIVE[0], replace(FIVE[2], seq=2), replace(FIVE[1], seq=3), *FIVE[3:]], 2, "was changed"),
        ("twice", [*FIVE[:2], FIVE[1], *FIVE[2:]], 3, "a place it cannot have"),
        ("tail", FIVE[:4], 5, "later ones up to 5 were removed"),
        ("all", [], 1, "later ones up to 5 were removed"),
    ],
)
def test_whatever_is_done_to_records_is_found_and_named(
    name: str, given_records: list[Record], seq: int, why: str
) -> None:
    finding = found(given_records, 5, END)
    assert finding is not None
    assert (finding.number, finding.chain, finding.seq) == (3, CHAIN.id, seq)
    assert why in finding.why
    assert str(seq) in str(finding)


def test_a_tail_cut_off_with_its_length_is_found_by_the_head() -> None:
    finding = found(FIVE[:4], 4, END)
    assert finding is not None
    assert finding.seq == 0
    assert "head" in finding.why


def test_a_record_beyond_the_length_is_found() -> None:
    finding = found(FIVE, 4, chain.tip_of(FIVE[3]))
    assert finding is not None
    assert "added" in finding.why


def test_an_old_head_put_back_is_found_by_a_witness() -> None:
    """Somebody kept the head of four records: only a witness of five knows better."""
    old = chain.tip_of(FIVE[3])
    assert found(FIVE[:4], 4, old) is None
    finding = found(FIVE[:4], 4, old, Witness(CHAIN.id, 5, FIVE[4].mac))
    assert finding is not None
    assert finding.seq == 5


def test_a_rewritten_record_is_found_by_a_witness() -> None:
    finding = found(FIVE, 5, END, Witness(CHAIN.id, 2, bytes(32)))
    assert finding is not None
    assert (finding.seq, "witness" in finding.why) == (2, True)


def test_another_key_finds_nothing_right() -> None:
    finding = found(FIVE, 5, END, key=Secret(b"x" * 32))
    assert finding is not None
    assert finding.seq == 1


def test_a_record_of_one_chain_does_not_fit_another() -> None:
    other = replace(CHAIN, id=UUID(int=8))
    check = ChainCheck(KEY, other)
    assert check.add(FIVE[0]) is not None


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_the_register_says_how_many(count: int) -> None:
    assert chain.read_register(KEY, chain.register(KEY, count)) == count


NOT_OURS = ["", ":", "3", "3:", "x:y", "٣:aa", "9" * 30 + ":", chain.register(Secret(b"x" * 32), 3)]


@pytest.mark.parametrize("text", [*NOT_OURS, chain.register(KEY, 3).replace("3:", "2:", 1)])
def test_a_register_that_is_not_ours_says_nothing(text: str) -> None:
    assert chain.read_register(KEY, text) is None


def test_no_two_lists_of_parts_have_one_mac() -> None:
    assert chain._mac(KEY, b"ab", b"c") != chain._mac(KEY, b"a", b"bc")


def test_what_was_found_first_stays() -> None:
    check = ChainCheck(KEY, CHAIN)
    first = check.add(FIVE[1])
    assert first is not None
    assert check.add(FIVE[0]) is first
    assert check.finish(5, b"") is first
    assert str(Finding(4, None, 0, "was removed")) == "chain 4 was removed"
