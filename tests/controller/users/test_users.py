"""Users and groups, as administrators change them."""

import json

import pytest
from sqlalchemy import select

from controller.errors import Refused
from controller.storage import Storage
from controller.storage.models import BackupCode, Totp, User
from tests.controller.administration import NOW, Office


@pytest.fixture
async def office(sqlite_storage: Storage) -> Office:
    return await (await Office.open(sqlite_storage)).furnish()


async def test_a_user_is_listed_as_made(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    await office.users.add("bob@example.test", "secret", actor="admin/0")
    alice, bob = await office.users.listing()
    assert (alice.name, alice.groups, alice.totp, alice.devices, alice.disabled_at) == (
        "alice",
        ("staff",),
        False,
        0,
        None,
    )
    assert (bob.name, bob.groups) == ("bob@example.test", ())


async def test_the_password_is_kept_hashed_and_recorded_nowhere(office: Office) -> None:
    await office.users.set("alice", password="correct horse", actor="admin/7")
    async with office.storage.read() as db:
        row = await db.get_one(User, (await office.users.listing())[0].id)
    assert row.password_hash == "hashed:13"
    assert not any("correct" in event or "hashed" in event for event in await office.recorded())


@pytest.mark.parametrize("name", ["", "Alice", "al ice", "-alice", "alice\n", "a" * 65, "alice/..", "älice"])
async def test_a_name_nobody_can_have(office: Office, name: str) -> None:
    with pytest.raises(Refused) as refused:
        await office.users.add(name, "secret", actor="admin/0")
    assert refused.value.code == "bad_name"


async def test_a_name_is_taken_once(office: Office) -> None:
    with pytest.raises(Refused) as refused:
        await office.users.add("alice", "secret", actor="admin/0")
    assert refused.value.code == "exists"


async def test_a_mistyped_name_is_met_with_the_nearest(office: Office) -> None:
    with pytest.raises(Refused) as refused:
        await office.users.disable("alcie", actor="admin/0")
    assert refused.value.code == "not_found"
    assert refused.value.fix == "did you mean alice?"
    with pytest.raises(Refused, match="see: gloam-controller group list"):
        await office.users.set("alice", groups=["zzz"], actor="admin/0")


async def test_disabled_and_enabled_again(office: Office) -> None:
    await office.users.disable("alice", actor="admin/0")
    await office.users.disable("alice", actor="admin/0")
    assert (await office.users.listing())[0].disabled_at == NOW
    await office.users.enable("alice", actor="admin/0")
    assert (await office.users.listing())[0].disabled_at is None
    what = [json.loads(event)["what"] for event in await office.recorded()]
    assert what[-2:] == ["user.disabled", "user.enabled"]


async def test_groups_set_are_all_there_are(office: Office) -> None:
    await office.users.add_group("oncall", actor="admin/0")
    await office.users.set("alice", groups=["oncall", "oncall"], actor="admin/0")
    assert (await office.users.listing())[0].groups == ("oncall",)
    await office.users.set("alice", groups=[], actor="admin/0")
    assert (await office.users.listing())[0].groups == ()


async def test_an_authenticator_is_forgotten(office: Office) -> None:
    alice = (await office.users.listing())[0]
    async with office.storage.change() as change:
        change.db.add(Totp(user_id=alice.id, sealed_secret=b"x", created_at=NOW, confirmed_at=NOW))
    assert (await office.users.listing())[0].totp
    await office.users.set("alice", reset_totp=True, actor="admin/0")
    assert not (await office.users.listing())[0].totp


async def test_a_reset_takes_the_backup_codes_as_well(office: Office) -> None:
    alice = (await office.users.listing())[0]
    async with office.storage.change() as change:
        change.db.add(BackupCode(user_id=alice.id, digest=b"x", created_at=NOW))
    assert (await office.users.listing())[0].backup_codes == 1
    await office.users.set("alice", reset_totp=True, actor="admin/0")
    assert (await office.users.listing())[0].backup_codes == 0


async def test_a_service_has_no_password_and_a_person_may_become_one(office: Office) -> None:
    await office.users.add("robot", None, actor="admin/0")
    assert json.loads((await office.recorded())[-1])["detail"] == "robot; a service; groups: none"
    assert [each.name for each in await office.users.listing() if each.service] == ["robot"]
    for password in ({"password": "correct horse battery"}, {"password": "correct horse battery", "service": True}):
        with pytest.raises(Refused) as refused:
            await office.users.set("robot", **password, actor="admin/0")
        assert refused.value.code == "bad_kind"
    assert (await office.users.set("alice", service=True, actor="admin/0")).kind
    assert (await office.users.set("robot", service=False, actor="admin/0")).kind
    assert not (await office.users.set("robot", service=False, actor="admin/0")).kind
    assert [each.name for each in await office.users.listing() if each.service] == ["alice"]
    assert json.loads((await office.recorded())[-1])["what"] == "user.service_set"
    async with office.storage.read() as db:
        assert set(await db.scalars(select(User.password_hash))) == {None}


async def test_a_person_may_have_no_password(office: Office) -> None:
    await office.users.add("bob", None, service=False, actor="admin/0")
    await office.users.set("alice", no_password=True, actor="admin/0")
    assert json.loads((await office.recorded())[-1])["what"] == "user.password_taken"
    async with office.storage.read() as db:
        rows = {row.name: (row.password_hash, row.service) for row in await db.scalars(select(User))}
    assert rows == {"alice": (None, False), "bob": (None, False)}


async def test_every_change_says_who_did_it(office: Office) -> None:
    await office.users.add_group("oncall", "staff", actor="admin/1000")
    last = json.loads((await office.recorded())[-1])
    assert (last["actor"], last["what"], last["detail"]) == ("admin/1000", "group.added", "oncall, in staff")


async def test_groups_are_listed_with_parent_and_members(office: Office) -> None:
    await office.users.add_group("oncall", "staff", actor="admin/0")
    oncall, staff = await office.users.groups()
    assert (oncall.name, oncall.parent, oncall.members) == ("oncall", "staff", ())
    assert (staff.name, staff.parent, staff.members) == ("staff", None, ("alice",))


async def test_a_group_is_never_in_itself(office: Office) -> None:
    await office.users.add_group("b", "staff", actor="admin/0")
    await office.users.add_group("c", "b", actor="admin/0")
    for parent in ("staff", "b", "c"):
        with pytest.raises(Refused, match="in itself") as refused:
            await office.users.set_parent("staff", parent, actor="admin/0")
        assert refused.value.code == "cycle"
    await office.users.set_parent("c", "staff", actor="admin/0")
    await office.users.set_parent("c", "staff", actor="admin/0")
    await office.users.set_parent("b", None, actor="admin/0")
    assert {group.name: group.parent for group in await office.users.groups()} == {
        "b": None,
        "c": "staff",
        "staff": None,
    }


@pytest.mark.parametrize(
    ("name", "parent", "code"), [("Staff", None, "bad_name"), ("staff", None, "exists"), ("x", "y", "not_found")]
)
async def test_a_group_that_cannot_be(office: Office, name: str, parent: str | None, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await office.users.add_group(name, parent, actor="admin/0")
    assert refused.value.code == code
