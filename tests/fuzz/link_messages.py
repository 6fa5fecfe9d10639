"""Fuzz target: what a gateway and the controller say on their link."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Final

from tests.fuzz.messages import check_text
from tests.fuzz.samples import changed, samples, words
from tests.fuzz.target import Reached, Target
from wire.messages import decode, from_gateway, to_gateway

ADAPTERS: Final = {"from_gateway": from_gateway, "to_gateway": to_gateway}
READERS: Final = {name: partial(decode, adapter) for name, adapter in ADAPTERS.items()}
SCHEMAS: Final = [adapter.json_schema() for adapter in ADAPTERS.values()]


def check(data: bytes, reached: Reached) -> None:
    check_text(data, READERS, reached)


def seeds() -> Iterator[bytes]:
    for schema in SCHEMAS:
        for document in samples(schema):
            yield json.dumps(document).encode()


WORDS: Final = tuple({word for schema in SCHEMAS for word in words(schema)})

TARGET: Final = Target(check, seeds, longest=8192, words=WORDS, mutate=changed)
