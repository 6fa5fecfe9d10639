"""Administrators' own Cedar files: all or none, in force at once, and explained as they are."""

import pytest

from controller.errors import Refused
from controller.policies import PolicyFile
from controller.storage import Storage
from tests.controller.administration import NOW, Office

FORBID = PolicyFile(
    "moving.cedar",
    '@id("moving") @reason("The wiki is being moved.")\nforbid (principal, action, resource == Resource::"wiki");\n',
)
WRONG = PolicyFile("wrong.cedar", '@id("wrong") permit (principal, action, resource) when { context.risk > 1 };')


@pytest.fixture
async def office(sqlite_storage: Storage) -> Office:
    office = await (await Office.open(sqlite_storage)).furnish()
    await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    return office


async def test_a_file_applied_is_in_force_and_shown(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    grant = await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    applied = await office.policies.apply([FORBID], actor="admin/0")
    assert applied.problems == applied.warnings == ()
    assert applied.revision == office.directory.current.revision
    explained = office.policies.explain("alice", "wiki")
    assert (explained.answer, explained.code, explained.policies) == ("deny", "forbidden", ("moving",))
    assert explained.sentence == "The wiki is being moved. (policy moving)"
    file, compiled = await office.policies.show()
    assert (file.name, file.text) == (FORBID.name, FORBID.text)
    assert compiled.name == f"grant/{grant.id}"
    assert compiled.text.startswith(f'@id("grant/{grant.id}")\npermit (principal in Group::"staff"')
    assert await office.policies.remove(FORBID.name, actor="admin/0") == applied.revision + 1
    assert office.policies.explain("alice", "wiki").answer == "allow"
    with pytest.raises(Refused):
        await office.policies.remove(FORBID.name, actor="admin/0")


async def test_one_wrong_file_and_none_is_applied(office: Office) -> None:
    before = office.directory.current
    applied = await office.policies.apply([FORBID, WRONG], actor="admin/0")
    assert [(problem.file, problem.line, problem.column) for problem in applied.problems] == [("wrong.cedar", 1, 66)]
    assert office.directory.current is before
    assert office.policies.explain("alice", "wiki").answer == "allow"


async def test_checking_changes_nothing(office: Office) -> None:
    before = office.directory.current
    assert (await office.policies.check([FORBID])).problems == ()
    assert (await office.policies.check([FORBID])).policies == 1
    assert len((await office.policies.check([FORBID, WRONG])).problems) == 1
    assert office.directory.current is before
    assert len(await office.policies.show()) == 1


async def test_a_file_replaces_the_one_of_its_name(office: Office) -> None:
    await office.policies.apply([FORBID], actor="admin/0")
    assert (await office.policies.check([FORBID])).problems == ()
    nothing = PolicyFile(FORBID.name, "// nothing any more")
    assert (await office.policies.apply([nothing], actor="admin/0")).problems == ()
    assert office.policies.explain("alice", "wiki").answer == "allow"


async def test_an_id_in_another_file_in_force_is_refused(office: Office) -> None:
    await office.policies.apply([FORBID], actor="admin/0")
    (problem,) = (await office.policies.apply([PolicyFile("again.cedar", FORBID.text)], actor="admin/0")).problems
    assert "moving.cedar line 1" in problem.what


async def test_a_name_of_nobody_is_a_warning(office: Office) -> None:
    text = '@id("x") forbid (principal in Group::"stafff", action, resource);'
    (warning,) = (await office.policies.apply([PolicyFile("x.cedar", text)], actor="admin/0")).warnings
    assert warning.fix == "did you mean staff?"
    assert len(await office.policies.show()) == 2


@pytest.mark.parametrize("names", [["../x.cedar"], [""], ["a b"], ["x.cedar", "x.cedar"]])
async def test_a_file_that_cannot_be_named(office: Office, names: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        await office.policies.check([PolicyFile(name, "") for name in names])
    assert refused.value.code == "bad_name"


async def test_explain_at_another_time(office: Office) -> None:
    await office.policies.apply([FORBID], actor="admin/0")
    await office.policies.remove(FORBID.name, actor="admin/0")
    (grant,) = await office.grants.listing()
    await office.grants.remove(str(grant.id), actor="admin/0")
    await office.grants.add(group="staff", resource="wiki", hours="Sat 10:00-11:00 UTC", actor="admin/0")
    now = office.policies.explain("alice", "wiki")
    assert (now.at, now.code) == (NOW, "outside_hours")
    assert "Sat 2026-01-10 10:00" in now.sentence
    then = office.policies.explain("alice", "wiki", "2026-01-10T11:30+01:00")
    assert (then.answer, then.sentence) == ("allow", "alice may reach wiki.")
    assert "an approved device" in then.assumed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("bob", "wiki"), "not_found"),
        (("alice", "wikki"), "not_found"),
        (("alice", "wiki", "tomorrow"), "bad_time"),
        (("alice", "wiki", "2026-01-10T11:30"), "bad_time"),
    ],
)
async def test_what_cannot_be_explained(office: Office, arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as refused:
        office.policies.explain(*arguments)
    assert refused.value.code == code
