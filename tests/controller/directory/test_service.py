"""The current directory: loaded, replaced whole, counted, and acted upon; on SQLite and PostgreSQL."""

import asyncio

import pytest

from controller.directory import DirectoryService, bump_revision
from controller.errors import Refused
from controller.storage import Storage
from controller.storage.models import Device, Policy
from tests.controller.administration import NOW, Office


async def test_there_is_none_before_it_is_loaded(sqlite_storage: Storage) -> None:
    with pytest.raises(RuntimeError, match="not loaded"):
        _ = DirectoryService(sqlite_storage).current


async def test_what_is_committed_is_what_is_loaded(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    await office.users.add_group("oncall", "staff", actor="admin/0")
    await office.users.add("bob", "secret", ["oncall"], actor="admin/0")
    grant = await office.grants.add(
        group="staff", resource="wiki", hours="mon-fri 08:00-18:00 Europe/Paris", mfa_within="15m", expires="4h",
        reason="because", actor="admin/0",
    )  # fmt: skip
    alice = office.directory.current.user_named("alice")
    assert alice is not None
    async with storage.change() as change:
        change.db.add(
            Device(
                user_id=alice.id,
                name="laptop",
                platform="linux",
                sealed_knock_secret=b"x",
                key_sha256=b"y",
                certified_until=NOW,
                created_at=NOW,
            )
        )
    await office.directory.reload()
    fresh = DirectoryService(storage)
    directory = await fresh.reload()
    for name in ("revision", "users", "groups", "devices", "gateways", "resources", "grants", "names"):
        assert getattr(directory, name) == getattr(office.directory.current, name)
    assert directory.revision == office.directory.current.revision == 7
    (device,) = directory.devices.values()
    assert (device.user_id, device.name, device.approved_at) == (alice.id, "laptop", None)
    bob = directory.user_named("bob")
    assert bob is not None
    assert bob.groups == {"oncall", "staff"}
    assert directory.groups["oncall"].ancestors == {"staff"}
    assert directory.resources["wiki"].gateways == ("edge",)
    loaded = directory.grants[f"grant/{grant.id}"]
    assert (str(loaded.hours), loaded.expires_at) == ("Mon-Fri 08:00-18:00 Europe/Paris", grant.expires_at)
    assert [(served.name, served.port) for served in fresh.served_by("edge") or ()] == [("wiki", 80)]
    assert fresh.served_by("nothing") is None


async def test_a_change_is_in_force_and_acted_upon_when_it_is_done(sqlite_storage: Storage) -> None:
    office = await Office.open(sqlite_storage)
    seen: list[int] = []

    async def act(directory: object) -> None:
        await asyncio.sleep(0)
        seen.append(directory.revision)

    office.directory.subscribe(act)
    await office.furnish()
    assert seen == [1, 2, 3, 4]
    assert office.directory.current.revision == 4


async def test_a_change_that_changes_nothing_is_not_counted(sqlite_storage: Storage) -> None:
    office = await (await Office.open(sqlite_storage)).furnish()
    before = office.directory.current
    await office.users.enable("alice", actor="admin/0")
    assert office.directory.current is before
    assert len(await office.recorded()) == 4


async def test_a_refused_change_leaves_no_trace(sqlite_storage: Storage) -> None:
    office = await (await Office.open(sqlite_storage)).furnish()
    before = office.directory.current
    with pytest.raises(Refused):
        await office.users.add("bob", "secret", ["staff", "stff"], actor="admin/0")
    assert office.directory.current is before
    assert [user.name for user in await office.users.listing()] == ["alice"]
    assert len(await office.recorded()) == 4


async def test_another_controllers_change_is_noticed(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    other = DirectoryService(storage)
    await other.reload()
    assert await other.refresh() is other.current
    before = other.current
    await office.users.disable("alice", actor="admin/0")
    assert await other.refresh() is not before
    alice = other.current.user_named("alice")
    assert alice is not None
    assert alice.disabled_at == NOW


async def test_concurrent_changes_are_all_counted(storage: Storage) -> None:
    office = await Office.open(storage)
    await asyncio.gather(*(office.users.add_group(f"g{number}", actor="admin/0") for number in range(10)))
    assert office.directory.current.revision == 10
    assert len(office.directory.current.groups) == 10


async def test_stored_policies_that_cannot_be_used_deny_everything(sqlite_storage: Storage) -> None:
    office = await (await Office.open(sqlite_storage)).furnish()
    await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    assert office.policies.explain("alice", "wiki").answer == "allow"
    async with sqlite_storage.change() as change:  # as an older version with another schema might have left it
        text = '@id("old") forbid (principal, action, resource) when { context.trust < 1 };'
        change.db.add(Policy(name="old.cedar", text=text, applied_at=NOW))
        await bump_revision(change)
    await office.directory.refresh()
    assert "old.cedar:1:64" in office.directory.current.engine.problem
    explained = office.policies.explain("alice", "wiki")
    assert (explained.answer, explained.code) == ("deny", "policy_error")
    await office.policies.remove("old.cedar", actor="admin/0")
    assert office.policies.explain("alice", "wiki").answer == "allow"
