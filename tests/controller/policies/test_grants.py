"""Grants, as administrators make them."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from controller.errors import Refused
from controller.storage import Storage
from controller.storage.models import Grant, Group
from tests.controller.administration import NOW, Office


@pytest.fixture
async def office(sqlite_storage: Storage) -> Office:
    return await (await Office.open(sqlite_storage)).furnish()


async def test_a_grant_is_listed_as_made(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    plain = await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    full = await office.grants.add(
        user="alice", segment="office", hours="mon-fri  08:00-18:00 Europe/Paris", mfa_within="90m", expires="4h",
        reason=" on call ", actor="admin/0",
    )  # fmt: skip
    assert {view.id: view for view in await office.grants.listing()} == {plain.id: plain, full.id: full}
    assert (plain.to, plain.on, plain.hours, plain.mfa_within, plain.expires_at) == (
        "group staff", "resource wiki", None, None, None,
    )  # fmt: skip
    assert (full.to, full.on, full.hours, full.mfa_within) == (
        "user alice", "segment office", "Mon-Fri 08:00-18:00 Europe/Paris", "1h30m",
    )  # fmt: skip
    assert (full.expires_at, full.reason) == (NOW + timedelta(hours=4), "on call")
    assert "reason: on call" in (await office.recorded())[-1]


async def test_the_same_grant_again_is_the_same_grant(office: Office) -> None:
    asked = {"group": "staff", "resource": "wiki", "hours": "Mon-Fri 08:00-18:00 Europe/Paris", "mfa_within": "1h"}
    first = await office.grants.add(**asked, actor="admin/0")
    before = await office.recorded()
    assert await office.grants.add(**asked | {"hours": "mon-fri  08:00-18:00 Europe/Paris"}, actor="admin/0") == first
    assert await office.recorded() == before
    others = [{"reason": "on call"}, {"mfa_within": "2h"}, {"hours": None}, {"expires": "4h"}, {"expires": "4h"}]
    made = {(await office.grants.add(**asked | other, actor="admin/0")).id for other in others}
    assert len(made | {first.id}) == 1 + len(others)


async def test_a_grant_is_in_force_at_once_and_gone_at_once(office: Office) -> None:
    assert office.policies.explain("alice", "wiki").answer == "deny"
    grant = await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    assert office.policies.explain("alice", "wiki").policies == (f"grant/{grant.id}",)
    await office.grants.remove(str(grant.id), actor="admin/0")
    assert office.policies.explain("alice", "wiki").code == "no_grant"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"user": "alice"}, "bad_grant"),
        ({"group": None}, "bad_grant"),
        ({"segment": "office"}, "bad_grant"),
        ({"resource": None}, "bad_grant"),
        ({"group": "stff"}, "not_found"),
        ({"resource": "wikki"}, "not_found"),
        ({"resource": None, "segment": "offce"}, "not_found"),
        ({"group": None, "user": "bob"}, "not_found"),
        ({"hours": "9 to 5"}, "bad_hours"),
        ({"mfa_within": "soon"}, "bad_duration"),
        ({"mfa_within": "500ms"}, "bad_duration"),
        ({"mfa_within": "1s500ms"}, "bad_duration"),
        ({"mfa_within": "4000d"}, "bad_duration"),
        ({"expires": "0s"}, "bad_duration"),
        ({"expires": "-4h"}, "bad_duration"),
        ({"reason": "two\nlines"}, "bad_reason"),
        ({"reason": "x" * 1025}, "bad_reason"),
    ],
)
async def test_a_grant_that_cannot_be(office: Office, change: dict[str, str | None], code: str) -> None:
    with pytest.raises(Refused) as refused:
        await office.grants.add(**{"group": "staff", "resource": "wiki", **change}, actor="admin/0")
    assert refused.value.code == code
    assert refused.value.fix
    assert await office.grants.listing() == []


async def test_a_segment_without_resources_is_asked_about(office: Office) -> None:
    with pytest.raises(Refused, match="did you mean office"):
        await office.grants.add(group="staff", segment="offce", actor="admin/0")
    with pytest.raises(Refused, match="resource add"):
        await office.grants.add(group="staff", segment="zzz", actor="admin/0")


async def test_a_grant_is_named_by_a_unique_beginning(office: Office) -> None:
    grant = await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    for wrong in ("", str(grant.id)[:3], "00000000-0000"):
        with pytest.raises(Refused) as refused:
            await office.grants.remove(wrong, actor="admin/0")
        assert refused.value.code == "not_found"
    assert await office.grants.remove(f"grant/{str(grant.id)[:12].upper()}", actor="admin/0") == grant.id


async def test_a_beginning_that_two_grants_have_is_not_enough(office: Office) -> None:
    async with office.storage.change() as change:
        group = (await change.db.scalars(select(Group.id))).one()
        for last in (1, 2):
            identifier = UUID(int=0xABCD << 112 | last)
            change.db.add(Grant(id=identifier, group_id=group, segment="office", created_at=NOW))
    with pytest.raises(Refused) as refused:
        await office.grants.remove("abcd", actor="admin/0")
    assert refused.value.code == "ambiguous"
    await office.grants.remove(f"abcd{'0' * 4}-0000-0000-0000-000000000002", actor="admin/0")
    assert len(await office.grants.listing()) == 1


async def test_an_ended_grant_is_still_listed_and_says_so(office: Office) -> None:
    await office.grants.add(group="staff", resource="wiki", expires="1h", actor="admin/0")
    office.now = NOW + timedelta(hours=1)
    assert len(await office.grants.listing()) == 1
    assert office.policies.explain("alice", "wiki").code == "grant_expired"
