"""The laws of the fuzz targets, without the fuzzer: on their seeds, on what chance makes, on all that was found."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.canary import TARGET as CANARY
from tests.fuzz.findings import failure, kept, minimised
from tests.fuzz.samples import changed
from tests.fuzz.target import NAMES, load, pieces


def untold(_name: str) -> None:
    """Nobody is listening: places are for the fuzzer."""


@pytest.mark.parametrize("name", NAMES)
def test_every_seed_keeps_the_laws_and_gets_somewhere(name: str) -> None:
    target, places = load(name), set[str]()
    seeds = list(target.seeds())
    for seed in seeds:
        assert len(seed) <= target.longest
        target.check(seed, places.add)
    assert places, "no seed gets past the first check"


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_what_chance_makes_of_seeds_keeps_the_laws(name: str, data: st.DataObject) -> None:
    target = load(name)
    seed = data.draw(st.sampled_from(list(target.seeds())))
    start, end = sorted(data.draw(st.tuples(*(st.integers(0, len(seed)),) * 2)))
    middle = data.draw(st.one_of(st.binary(max_size=32), st.sampled_from([b"", *target.words])))
    target.check((seed[:start] + middle + seed[end:])[: target.longest], untold)
    if target.mutate is not None:
        target.check(target.mutate(seed, Random(data.draw(st.integers(0, 2**32))))[: target.longest], untold)


@pytest.mark.parametrize(("target", "finding", "data"), list(kept()), ids=lambda value: str(value)[:60])
def test_what_was_found_once_stays_repaired(target: str, finding: str, data: bytes) -> None:
    load(target).check(data, untold)


def test_a_finding_is_made_small_and_stays_the_same_finding() -> None:
    data = b"kn\x00k\x94\x01\x00\xca\xfe and much more that has nothing to do with it"
    what = failure(CANARY, data)
    assert what.startswith("Fault at check:")
    small = minimised(lambda candidate: failure(CANARY, candidate) == what, data)
    assert len(small) == 9
    assert failure(CANARY, small) == what
    assert failure(CANARY, small[:-1]) == ""


@given(st.binary(max_size=2000), st.binary(max_size=3))
def test_pieces_are_the_whole_in_order(data: bytes, cuts: bytes) -> None:
    cut = pieces(data, cuts)
    assert b"".join(cut) == data
    assert all(cut)
    assert len(cut) <= 64


documents = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(documents, st.integers())
def test_any_document_can_be_changed(document: object, seed: int) -> None:
    assert isinstance(changed(json.dumps(document).encode(), Random(seed)), bytes)
    assert changed(b"no JSON", Random(seed)) == b"no JSON"
