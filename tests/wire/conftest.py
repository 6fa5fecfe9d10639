"""Fixtures for the tests of the wire; the objects are in `harness`."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import uvloop
from pytest_asyncio.plugin import LoopFactory

from tests.wire.harness import Authority, Wire


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.make()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Every asynchronous test of the wire runs on both event loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def wire(authority: Authority) -> AsyncIterator[Wire]:
    one = Wire(authority)
    yield one
    async with asyncio.timeout(60):
        await one.close()
