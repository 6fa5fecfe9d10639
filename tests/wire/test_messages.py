"""Messages: what one side says the other reads, and nothing else is read."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from wire.errors import RemoteError
from wire.messages import (
    Acknowledged,
    Address,
    Attach,
    EnrolReply,
    Lease,
    LeasePut,
    LoginRequest,
    Message,
    OtpProof,
    PasswordProof,
    Ping,
    Renew,
    SessionView,
    decode,
    from_client,
    from_gateway,
    parse,
    to_client,
    to_gateway,
)

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
ADAPTERS: list[TypeAdapter[Any]] = [from_client, to_client, from_gateway, to_gateway]
LEASE = Lease(
    session=uuid4(),
    device=uuid4(),
    user="alice",
    knock_keys=(bytes(range(64)),),
    permits=(),
    valid_until=NOW,
    policy_revision=3,
)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (from_client, Attach(session=uuid4())),
        (from_client, Renew(csr="-----BEGIN CERTIFICATE REQUEST-----")),
        (from_gateway, Acknowledged(seq=7)),
        (to_gateway, Ping(time=NOW)),
        (to_gateway, LeasePut(seq=1, lease=LEASE)),
    ],
)
def test_what_is_said_is_read(adapter: TypeAdapter[Any], message: Message) -> None:
    assert decode(adapter, message.model_dump_json()) == message


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "ack", "seq": 1, "extra": true}',
        '{"type": "ack"}',
        '{"type": "ack", "seq": -1}',
        '{"type": "ack", "seq": "one"}',
        '{"type": "no.such", "seq": 1}',
        '{"seq": 1}',
        "[]",
        "null",
        "",
        "{",
        '{"type": "ack", "seq": 1}{"type": "ack", "seq": 2}',
        '{"type": "ack", "seq": 1, "seq2": {"deep": [[[[]]]]}}',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RemoteError):
        decode(from_gateway, text)


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_no_text_does_more_than_be_refused(text: str | bytes) -> None:
    for adapter in ADAPTERS:
        with pytest.raises(RemoteError):
            decode(adapter, text)


@given(st.dictionaries(st.sampled_from(["type", "seq", "session", "csr", "lease", "time"]), st.text() | st.integers()))
def test_no_object_does_more_than_be_read_or_refused(document: dict[str, object]) -> None:
    for adapter in ADAPTERS:
        try:
            read = decode(adapter, json.dumps(document))
        except RemoteError:
            continue
        assert json.loads(read.model_dump_json()).items() >= {"type": document["type"]}.items()


@pytest.mark.parametrize("text", ["", "192.0.2", "::ffff:192.0.2.7", "fe80::1%eth0", "2001:DB8::7", "[::1]", "host"])
def test_an_address_has_one_spelling(text: str) -> None:
    view = {"id": str(UUID(int=7)), "user": "alice", "certificate": "", "valid_until": "2026-01-01T00:00:00Z"}
    rest = {"resources": [], "gateways": []}
    assert parse(SessionView, json.dumps({**view, **rest, "seen_at": "2001:db8::7"})).seen_at == "2001:db8::7"
    with pytest.raises(RemoteError):
        parse(SessionView, json.dumps({**view, **rest, "seen_at": text}))


def test_a_refusal_never_shows_the_value() -> None:
    with pytest.raises(RemoteError) as refused:
        parse(LoginRequest, json.dumps({"proofs": [{"type": "password", "password": ["hunter2"]}]}))
    assert "hunter2" not in str(refused.value)
    with pytest.raises(RemoteError) as refused:
        decode(from_gateway, '{"type": "hunter2"}')
    assert "hunter2" not in str(refused.value)


def test_a_request_holds_one_proof_of_a_kind() -> None:
    with pytest.raises(RemoteError) as refused:
        parse(LoginRequest, json.dumps({"proofs": [{"type": "password", "password": each} for each in "ab"]}))
    assert "two proofs of one kind" in str(refused.value)


def test_secrets_are_not_in_representations() -> None:
    login = LoginRequest(proofs=(PasswordProof(password="hunter2"), OtpProof(code="123456")), csr="x")
    assert "hunter2" not in repr(login)
    assert "123456" not in repr(login)
    assert "knock_keys" not in repr(LEASE)
    assert "knock_secret" not in repr(
        EnrolReply.model_construct(id="x", knock_secret=b"\1" * 32, controllers=(Address(host="a", port=1),))
    )


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(RemoteError):
        decode(to_gateway, '{"type": "ping", "time": "2026-11-22T05:00:00"}')
