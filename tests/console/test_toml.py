import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.toml import Entry, Table, toml_document, toml_key, toml_value

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "None" not in repr(value))


@given(values)
def test_values_read_back(value: object) -> None:
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


@given(st.text())
def test_keys_read_back(key: str) -> None:
    assert tomllib.loads(f"{toml_key(key)} = 1") == {key: 1}


@given(
    st.dictionaries(st.text(max_size=5), values, max_size=4), st.dictionaries(st.text(max_size=5), values, max_size=3)
)
def test_documents_read_back(plain: dict[str, object], inner: dict[str, object]) -> None:
    below = Table((*(Entry(k, v) for k, v in inner.items()), Entry("deeper table", Table((Entry("x", 1),)))))
    entries = [Entry("the table", below, "A table.\nOf two lines."), *(Entry(k, v, "Why.") for k, v in plain.items())]
    expected = {**plain, "the table": {**inner, "deeper table": {"x": 1}}}
    assert tomllib.loads(toml_document(entries)) == expected


def test_numbers_that_are_none() -> None:
    assert math.isnan(tomllib.loads(f"x = {toml_value(math.nan)}")["x"])


def test_a_document_explains_itself() -> None:
    entries = [
        Entry("listen", "127.0.0.1:8443", "Where to listen."),
        Entry("database", None, "Where the database is."),
        Entry("limits", Table((Entry("tunnels", 1000, "How many."), Entry("empty", {}))), "What is too much."),
        Entry("plain", [1, True]),
    ]
    assert toml_document(entries) == (
        "# Where to listen.\n"
        'listen = "127.0.0.1:8443"\n'
        "\n"
        "# Where the database is.\n"
        "# database =\n"
        "\n"
        "plain = [1, true]\n"
        "\n"
        "# What is too much.\n"
        "[limits]\n"
        "# How many.\n"
        "tunnels = 1000\n"
        "\n"
        "empty = {}\n"
    )


@pytest.mark.parametrize("value", [None, b"x", object(), "\ud800", [None]])
def test_what_toml_cannot_say_is_an_error(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        toml_value(value)
