import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.identity.strength import weakness

KNOWN = ("alice.liddell@wonderland.test", "example.test")


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "qwertyuiop",
        "Tr0ub4dour&3",
        "wonderland1",
        "alice.liddell",
        "example.test1",
        "aaaaaaaaaaaaaaaaaaaa",
        "x",
    ],
)
def test_what_is_guessed_first_is_refused_with_what_helps(password: str) -> None:
    weak = weakness(password, KNOWN)
    assert weak is not None
    assert "easily guessed" in weak.why
    assert "password manager" in weak.fix
    assert password not in weak.why + weak.fix or password == "password" or len(password) == 1


@pytest.mark.parametrize("password", ["correct horse battery staple", "k7#Vq-m2xRz!", "viermal um den Teich 1987"])
def test_what_is_hard_to_guess_is_taken(password: str) -> None:
    assert weakness(password, KNOWN) is None


def test_a_name_of_ones_own_makes_a_password_weak() -> None:
    assert weakness("zyxgate", ()) is None or weakness("zyxgate-tower", ()) is None
    assert weakness("zyxgate-tower", ("zyxgate-tower",)) is not None


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1, max_size=1024))
def test_any_text_gets_an_answer(password: str) -> None:
    weakness(password, KNOWN)
