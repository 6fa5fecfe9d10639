"""Fuzz target: names of certificates, trust domains and labels, from any text."""

from collections.abc import Iterator
from typing import Final

from certs.errors import BadName
from certs.names import LONGEST_URI, Name, NameKind, parse_domain, parse_label
from tests.fuzz.target import Reached, Target

LONGEST_REFUSAL: Final = 250
UUID: Final = "11111111-2222-3333-4444-555555555555"


def check(data: bytes, reached: Reached) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for uri in (text, f"spiffe://example.test/gateway/{text}", f"spiffe://{text}/device/{UUID}"):
        try:
            name = Name.parse(uri)
        except BadName as error:
            bounded(error)
        else:
            reached(name.kind)
            assert str(name) == uri, "two texts are the same name"
            assert Name.parse(str(name)) == name
            assert name.purpose is NameKind(name.kind).purpose
    for parsed in (lambda: parse_label(text, "resource name"), lambda: parse_domain(text)):
        try:
            assert parsed() == text
        except BadName as error:
            bounded(error)
        else:
            reached("label or domain")
            assert text.isascii()
            assert text == text.lower()
            assert "/" not in text


def bounded(error: BadName) -> None:
    """What is said of a stranger's text is short and has nothing in it that a terminal would obey."""
    assert str(error).isprintable()
    assert str(error).isascii()
    assert len(str(error)) <= LONGEST_REFUSAL
    assert error.fix


def seeds() -> Iterator[bytes]:
    for text in (
        "spiffe://example.test/controller/main",
        "spiffe://example.test/gateway/edge-1",
        f"spiffe://example.test/device/{UUID}",
        f"spiffe://x/session/{UUID}",
        "spiffe://example.test/gateway/edge/x",
        "example.test",
        "wiki",
        "a" * 64,
        "wiki\n",
        "\u0661",
    ):
        yield text.encode()


WORDS: Final = (b"spiffe://", b"/gateway/", b"/device/", b"/session/", b"/controller/", UUID.encode(), b".", b"-")

TARGET: Final = Target(check, seeds, longest=LONGEST_URI + 64, words=WORDS)
