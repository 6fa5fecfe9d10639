from collections.abc import AsyncIterator

import pytest

from tests.controller.identity.oidc.signer import Signer
from tests.controller.identity.oidc.world import World
from tests.controller.perimeter import Perimeter


@pytest.fixture
async def signer() -> AsyncIterator[Signer]:
    made = Signer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def world(perimeter: Perimeter, signer: Signer) -> World:
    return await World.make(perimeter, signer)
