"""Stories are told with the lab: real processes, the commands people type, distinct loopback addresses."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import make_url

from lab.perimeter import Client, Perimeter
from lab.processes import Spawn
from tests.postgresql import new_database

ONE_WORKER = {"GLOAM_WORKERS": "1"}
"""Each worker costs half a second of CPU to start, and most stories are not about them."""


class Stage:
    """The usual perimeter: a controller, the gateway edge, the wiki that staff may reach, payroll that nobody may."""

    def __init__(self, perimeter: Perimeter) -> None:
        self.perimeter = perimeter
        self._people = 0

    async def set(self) -> None:
        perimeter = self.perimeter
        await perimeter.start_controller()
        await perimeter.add_gateway("edge")
        await perimeter.add_resource("wiki", gateways=["edge"])
        await perimeter.add_resource("echo", gateways=["edge"], kind="echo", port=7)
        await perimeter.add_resource("payroll", gateways=["edge"])
        await perimeter.admin_json("group", "add", "staff")
        await perimeter.admin_json("grant", "add", "--group", "staff", "--resource", "wiki")
        await perimeter.admin_json("grant", "add", "--group", "staff", "--resource", "echo")

    async def person(self, name: str = "", *, login: bool = True) -> Client:
        """A member of staff with an enrolled machine: alice, unless the perimeter has one, or another name is given."""
        self._people += 1
        name = name or ("alice" if self._people == 1 else f"alice{self._people}")
        await self.perimeter.add_user(name, groups=["staff"])
        client = await self.perimeter.add_client(name)
        if login:
            await client.login(name)
        return client

    async def windows_are_closed(self) -> None:
        """All machines of a stage share an address, and so its windows: a knock is seen to open one once they are shut.

        A window is open for 10 s, so it is asked for now and then.
        """
        async with asyncio.timeout(60):
            while (await self.perimeter.gateway_status("edge"))["windows"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            while (await self.perimeter.admin_json("status"))["windows"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def events(self, kind: str, **fields: str) -> list[dict[str, Any]]:
        """The audit log's events of this kind with these fields, the oldest first."""
        tail = await self.perimeter.admin("audit", "tail", "-n", "10000", "--json")
        records = [json.loads(line) for line in tail.out.splitlines()]
        events = [record["event"] for record in records if record["kind"] == kind]
        return [event for event in events if all(event.get(key) == value for key, value in fields.items())]


MakeStage = Callable[..., contextlib.AbstractAsyncContextManager[Stage]]


@pytest.fixture
def database_for_scenario(request: pytest.FixtureRequest) -> str | None:
    """The database stories are told on: SQLite, unless pytest was given `--database URL`; then a fresh one there."""
    if request.config.getoption("--database") is None:
        return None
    url = request.getfixturevalue("postgresql_database")
    assert isinstance(url, str)
    return url


@pytest.fixture
def make_stage(database_for_scenario: str | None, spawn: Spawn) -> MakeStage:
    """`async with make_stage(cloak=…, settings=…) as stage:` a perimeter that stands, torn down at the end."""

    @contextlib.asynccontextmanager
    async def make(*, gateway_settings: Mapping[str, str] | None = None, **options: Any) -> AsyncIterator[Stage]:
        settings = {**ONE_WORKER, **(gateway_settings or {})}
        how = {"database": database_for_scenario, "admin_here": True, "spawn": spawn, **options}
        async with Perimeter(gateway_settings=settings, **how) as perimeter:
            stage = Stage(perimeter)
            await stage.set()
            yield stage

    return make


@pytest.fixture
async def stage(make_stage: MakeStage) -> AsyncIterator[Stage]:
    """The usual perimeter, with the cloak `auto` finds."""
    async with make_stage() as standing:
        yield standing


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(request: pytest.FixtureRequest, spawn: Spawn) -> AsyncIterator[Stage]:
    """The usual perimeter, one for all stories of a file: each brings people of its own and leaves the rest alone.

    A file that uses it says `pytestmark = pytest.mark.asyncio(loop_scope="module")`.
    """
    named = request.config.getoption("--database")
    async with contextlib.AsyncExitStack() as stack:
        database = None if named is None else await stack.enter_async_context(new_database(make_url(named)))
        made = Perimeter(database=database, admin_here=True, gateway_settings=ONE_WORKER, spawn=spawn)
        perimeter = await stack.enter_async_context(made)
        stage = Stage(perimeter)
        await stage.set()
        yield stage


@pytest.fixture
def as_root() -> None:
    """Skips the test where it cannot be told."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run the tests as root, or `sudo make test`")


@pytest.fixture
def tool() -> Callable[[str], str]:
    """`tool("nmap")`: where it is; skips the test where it is not."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"needs {name}: apt-get install {name}")
        return path

    return find
