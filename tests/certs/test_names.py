import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import BadName, CertsError
from certs.names import LABEL, Name, NameKind, Purpose, parse_domain, parse_label

UUID = "11111111-2222-3333-4444-555555555555"

labels = st.from_regex(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"), fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)
uuids = st.uuids().map(str)


@st.composite
def names(draw: st.DrawFn) -> Name:
    kind = draw(st.sampled_from(NameKind))
    identifier = draw(labels if kind.purpose is Purpose.SERVICES else uuids)
    return Name(draw(domains), kind, identifier)


@given(names())
def test_every_name_reads_back_from_its_text(name: Name) -> None:
    assert Name.parse(str(name)) == name


@given(st.text())
def test_text_is_a_name_only_if_it_is_the_text_of_that_name(text: str) -> None:
    for candidate in (text, f"spiffe://example.test/gateway/{text}", f"spiffe://{text}/gateway/edge"):
        try:
            name = Name.parse(candidate)
        except BadName:
            continue
        assert str(name) == candidate


@pytest.mark.parametrize(
    ("uri", "purpose"),
    [
        ("spiffe://example.test/controller/main", Purpose.SERVICES),
        ("spiffe://example.test/gateway/edge-1", Purpose.SERVICES),
        (f"spiffe://example.test/device/{UUID}", Purpose.DEVICES),
        (f"spiffe://example.test/session/{UUID}", Purpose.SESSIONS),
        ("spiffe://x/gateway/e", Purpose.SERVICES),
    ],
)
def test_the_kind_decides_the_purpose(uri: str, purpose: Purpose) -> None:
    assert Name.parse(uri).purpose is purpose


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe://example.test",
        "spiffe://example.test/gateway",
        "spiffe://example.test/gateway/",
        "spiffe://example.test/gateway/edge/",
        "spiffe://example.test/gateway/edge/x",
        "spiffe://example.test//edge",
        "spiffe:///gateway/edge",
        "SPIFFE://example.test/gateway/edge",
        "https://example.test/gateway/edge",
        "spiffe://Example.test/gateway/edge",
        "spiffe://example.test/Gateway/edge",
        "spiffe://example.test/gateway/Edge",
        "spiffe://example.test/gateway/edge\n",
        "spiffe://example.test\n/gateway/edge",
        "spiffe://example.test/gateway/-edge",
        "spiffe://example.test/gateway/edge-",
        "spiffe://example.test/gateway/ed ge",
        "spiffe://example.test/gateway/ed%67e",
        "spiffe://example.test/gateway/edge?x=1",
        "spiffe://example.test/gateway/edge#x",
        "spiffe://user@example.test/gateway/edge",
        "spiffe://example.test:443/gateway/edge",
        "spiffe://example..test/gateway/edge",
        f"spiffe://{'a.' * 127}a/gateway/edge",
        f"spiffe://example.test/gateway/{'a' * 64}",
        f"spiffe://example.test/gateway/{'a' * 3000}",
        "spiffe://example.test/user/anna",
        "spiffe://example.test/device/edge",
        f"spiffe://example.test/device/{UUID.upper().replace('1', 'A')}",
        f"spiffe://example.test/device/{UUID.replace('-', '')}",
        f"spiffe://example.test/device/{{{UUID}}}",
        f"spiffe://example.test/session/{UUID}\n",
        "spiffe://example.test/gateway/\uff45dge",
    ],
)
def test_anything_else_is_no_name(uri: str) -> None:
    with pytest.raises(BadName) as refused:
        Name.parse(uri)
    assert isinstance(refused.value, CertsError)
    assert isinstance(refused.value, ValueError)
    assert refused.value.fix
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("kind", "identifier"), [(NameKind.GATEWAY, "Edge"), (NameKind.DEVICE, "edge"), (NameKind.SESSION, "")]
)
def test_a_name_cannot_be_made_wrong_either(kind: NameKind, identifier: str) -> None:
    with pytest.raises(BadName):
        Name("example.test", kind, identifier)


def test_names_sort_hash_and_survive_copies() -> None:
    edge, west = Name("example.test", NameKind.GATEWAY, "edge"), Name("example.test", NameKind.GATEWAY, "west")
    assert sorted([west, edge]) == [edge, west]
    assert len({edge, Name.parse(str(edge))}) == 1
    assert pickle.loads(pickle.dumps(edge)) == edge  # noqa: S301 - our own


@given(labels)
def test_labels_are_labels(label: str) -> None:
    assert parse_label(label, "resource name") == label
    assert LABEL.match(label)
    assert parse_domain(label) == label


@pytest.mark.parametrize("text", ["", "-", "a-", "-a", "A", "a_b", "a.b", "a\n", "a" * 64, "\u0661", "é"])
def test_what_is_no_label_is_named_by_what_it_should_be(text: str) -> None:
    with pytest.raises(BadName, match="is not a resource name"):
        parse_label(text, "resource name")


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "A.b", "a b", "a/b", "a\n", "a." * 130 + "a"])
def test_what_is_no_trust_domain(text: str) -> None:
    with pytest.raises(BadName, match="is not a trust domain"):
        parse_domain(text)
