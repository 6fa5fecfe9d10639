import copy
import dataclasses
import logging
import pickle

import pytest

from certs.secret import Secret


def test_only_reveal_opens_it() -> None:
    secret = Secret(b"hunter2")
    assert secret.reveal() == b"hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", "%s" % secret, f"{[secret]}", repr({"k": secret})):  # noqa: UP031
        assert "hunter2" not in shown
        assert "Secret(…)" in shown


def test_it_stays_hidden_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("key %s", Secret(b"hunter2"))
    assert caplog.messages == ["key Secret(…)"]


@pytest.mark.parametrize(
    ("other", "equal"), [(Secret(b"a"), True), (Secret(bytearray(b"a")), True), (Secret(b"b"), False), (b"a", False)]
)
def test_equality_is_between_secrets(other: object, equal: bool) -> None:  # noqa: FBT001
    assert (Secret(b"a") == other) is equal


def test_it_is_neither_hashed_nor_pickled() -> None:
    with pytest.raises(TypeError):
        hash(Secret(b"a"))
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(Secret(b"a"))


def test_copies_are_itself_so_that_values_holding_it_can_be_replaced() -> None:
    @dataclasses.dataclass(frozen=True)
    class Holder:
        secret: Secret

    holder = Holder(Secret(b"a"))
    assert copy.copy(holder.secret) is holder.secret
    assert copy.deepcopy(holder).secret is holder.secret


def test_fresh_secrets_differ() -> None:
    assert len(Secret.fresh()) == 32
    assert len(Secret.fresh(12)) == 12
    assert Secret.fresh() != Secret.fresh()


def test_text_is_refused() -> None:
    with pytest.raises(TypeError, match="holds bytes"):
        Secret("hunter2")  # type: ignore[arg-type]
