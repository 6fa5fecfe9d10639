"""A perimeter for each test, and a device enrolled in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.processes import Spawn
from tests.client.commands import Gloam, Make
from tests.client.gateway import Authority, Gateway, Resource
from tests.client.perimeter import Controller, Perimeter


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def perimeter(authority: Authority) -> AsyncIterator[Perimeter]:
    resource = Resource()
    await resource.start()
    gateways = [Gateway("edge", authority, resource), Gateway("spare", authority, resource)]
    for gateway in gateways:
        await gateway.door.start()
    controller = Controller(authority, gateways)
    await controller.start()
    made = Perimeter(authority, controller, gateways, resource)
    controller.answers.resources = (
        made.wiki(),
        made.wiki(name="vault", allowed=False, code="mfa_age", sentence="your login is too old", fix="log in again"),
    )
    yield made
    await controller.close()
    for gateway in gateways:
        await gateway.close()
    await resource.close()


@pytest.fixture
async def make(perimeter: Perimeter, tmp_path: Path, spawn: Spawn) -> AsyncIterator[Make]:
    made: list[Gloam] = []

    def make(name: str) -> Gloam:
        made.append(Gloam(tmp_path / name, spawn))
        return made[-1]

    yield make
    for gloam in made:
        await gloam.close()


@pytest.fixture
async def gloam(perimeter: Perimeter, make: Make) -> Gloam:
    """An enrolled device."""
    found: Gloam = make("state")
    perimeter.device_state(found.directory)
    return found
