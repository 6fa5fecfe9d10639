"""Fuzz target: what devices and the controller say: enrolment, login, renewal, and the WebSocket of a live session."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Final

from pydantic import TypeAdapter

from tests.fuzz.messages import check_text
from tests.fuzz.samples import changed, samples, words
from tests.fuzz.target import Reached, Target
from wire.messages import (
    AccountReply,
    AccountRequest,
    ConfirmReply,
    EnrolReply,
    EnrolRequest,
    LoginReply,
    LoginRequest,
    OidcBegin,
    OidcBegun,
    OidcFinish,
    OidcFinished,
    PasskeyReply,
    PasskeyRequest,
    RecoverRequest,
    Refusal,
    RenewReply,
    RenewRequest,
    decode,
    from_client,
    parse,
    to_client,
)

ADAPTERS: Final = {"from_client": from_client, "to_client": to_client}
RENEWAL: Final = (RenewRequest, RecoverRequest, RenewReply, ConfirmReply)
OIDC: Final = (OidcBegin, OidcBegun, OidcFinish, OidcFinished)
BODIES: Final = (
    EnrolRequest,
    EnrolReply,
    LoginRequest,
    LoginReply,
    AccountRequest,
    AccountReply,
    *RENEWAL,
    *OIDC,
    PasskeyRequest,
    PasskeyReply,
    Refusal,
)
READERS: Final = {name: partial(decode, adapter) for name, adapter in ADAPTERS.items()} | {
    body.__name__: partial(parse, body) for body in BODIES
}
SCHEMAS: Final = [adapter.json_schema() for adapter in (*ADAPTERS.values(), *map(TypeAdapter, BODIES))]


def check(data: bytes, reached: Reached) -> None:
    check_text(data, READERS, reached)


def seeds() -> Iterator[bytes]:
    for schema in SCHEMAS:
        for document in samples(schema):
            yield json.dumps(document).encode()


WORDS: Final = tuple({word for schema in SCHEMAS for word in words(schema)})

TARGET: Final = Target(check, seeds, longest=8192, words=WORDS, mutate=changed)
