"""Resources and gateways, as administrators register them."""

import json

import pytest

from console.address import HostPort
from controller.errors import Refused
from controller.resources import parse_target
from controller.storage import Storage
from tests.controller.administration import Office


@pytest.fixture
async def office(sqlite_storage: Storage) -> Office:
    return await (await Office.open(sqlite_storage)).furnish()


TARGETS = {
    "10.0.0.5:80": ("10.0.0.5", 80),
    "10.0.0.5:53/udp": ("10.0.0.5", 53),
    "[fd00::5]:53/udp": ("fd00::5", 53),
    "[fd00::5]:22": ("fd00::5", 22),
    "[FD00:0::5]:22": ("fd00::5", 22),
    "DB.internal:5432": ("db.internal", 5432),
    "db.internal:5432/tcp": ("db.internal", 5432),
}


@pytest.mark.parametrize(("text", "expected"), TARGETS.items())
def test_a_target_has_one_meaning(text: str, expected: tuple[str, int]) -> None:
    assert parse_target(text).address == HostPort(*expected)


@pytest.mark.parametrize(
    ("text", "protocol", "expected"),
    [
        ("10.0.0.5:53", None, "tcp"),
        ("10.0.0.5:53", "tcp", "tcp"),
        ("10.0.0.5:53/tcp", None, "tcp"),
        ("10.0.0.5:53/tcp", "http", "http"),
        ("10.0.0.5:80", "http", "http"),
        ("10.0.0.5:53/udp", None, "udp"),
        ("10.0.0.5:53", "udp", "udp"),
        ("10.0.0.5:53/udp", "udp", "udp"),
    ],
)
def test_a_target_is_carried_as_one_protocol(text: str, protocol: str | None, expected: str) -> None:
    assert parse_target(text, protocol).protocol == expected


REFUSED = [
    ("10.0.0.5", "tcp", "bad_target"),
    ("10.0.0.5:0", "tcp", "bad_target"),
    ("fd00::5:22", "tcp", "bad_target"),
    ("http://wiki:80", "tcp", "bad_target"),
    ("10.0.0.5:80/sctp", "tcp", "bad_target"),
    ("10.0.0.5:53/udp", "tcp", "bad_protocol"),
    ("10.0.0.5:53/udp", "http", "bad_protocol"),
    ("10.0.0.5:53/tcp", "udp", "bad_protocol"),
    ("10.0.0.5:80", "gopher", "bad_protocol"),
    ("239.1.2.3:53/udp", None, "bad_target"),
    ("[ff02::1]:53/udp", None, "bad_target"),
    ("255.255.255.255:53", "udp", "bad_target"),
]


@pytest.mark.parametrize(("text", "protocol", "code"), REFUSED)
def test_what_cannot_be_a_target(text: str, protocol: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_target(text, protocol)
    assert refused.value.code == code
    assert refused.value.fix


async def test_a_resource_is_listed_as_made(storage: Storage) -> None:
    office = await (await Office.open(storage)).furnish()
    await office.gateways.add("far", "192.0.2.1:8443", "192.0.2.1:62201", actor="admin/0")
    await office.resources.add("ssh", ["far", "edge", "far"], "[fd00::1]:22", port=2222, actor="admin/0")
    await office.resources.add("web", ["edge"], "10.0.0.9:8080", protocol="http", actor="admin/0")
    ssh, web, wiki = await office.resources.listing()
    assert (ssh.name, ssh.port, ssh.target, ssh.gateways) == ("ssh", 2222, "[fd00::1]:22", ("edge", "far"))
    assert (web.protocol, web.port, web.segment) == ("http", 8080, None)
    assert (wiki.port, wiki.protocol, wiki.segment) == (80, "tcp", "office")
    edge, far = await office.gateways.listing()
    assert (edge.resources, far.resources) == (("ssh", "web", "wiki"), ("ssh",))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "Wiki"}, "bad_name"),
        ({"name": "wiki"}, "exists"),
        ({"gateways": []}, "bad_gateways"),
        ({"gateways": ["egde"]}, "not_found"),
        ({"port": 0}, "bad_port"),
        ({"port": 65536}, "bad_port"),
        ({"segment": "no segment"}, "bad_name"),
    ],
)
async def test_a_resource_that_cannot_be(office: Office, change: dict[str, object], code: str) -> None:
    arguments = {"name": "new", "gateways": ["edge"], "target": "10.0.0.5:80", **change}
    with pytest.raises(Refused) as refused:
        await office.resources.add(**arguments, actor="admin/0")
    assert refused.value.code == code


async def test_a_removed_resource_takes_its_grants_along(office: Office) -> None:
    grant = await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    kept = await office.grants.add(group="staff", segment="office", actor="admin/0")
    assert await office.resources.remove("wiki", actor="admin/0") == (grant.id,)
    assert [each.id for each in await office.grants.listing()] == [kept.id]
    assert str(grant.id) in json.loads((await office.recorded())[-1])["detail"]
    assert "wiki" not in office.directory.current.resources
    with pytest.raises(Refused):
        await office.resources.remove("wiki", actor="admin/0")


async def test_a_new_resource_of_an_old_name_begins_without_grants(office: Office) -> None:
    await office.grants.add(group="staff", resource="wiki", actor="admin/0")
    await office.resources.remove("wiki", actor="admin/0")
    await office.resources.add("wiki", ["edge"], "10.0.0.6:80", actor="admin/0")
    assert office.policies.explain("alice", "wiki").code == "no_grant"


async def test_the_only_gateway_of_a_resource_stays(office: Office) -> None:
    with pytest.raises(Refused, match="wiki") as refused:
        await office.gateways.remove("edge", actor="admin/0")
    assert refused.value.code == "in_use"
    await office.gateways.add("far", "192.0.2.1:8443", "192.0.2.1:62201", actor="admin/0")
    await office.gateways.remove("far", actor="admin/0")
    await office.resources.remove("wiki", actor="admin/0")
    await office.gateways.remove("edge", actor="admin/0")
    assert await office.gateways.listing() == []
    assert office.directory.served_by("edge") is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("Edge", "127.0.0.1:1", "127.0.0.1:1"), "bad_name"),
        (("edge", "127.0.0.1:1", "127.0.0.1:1"), "exists"),
        (("new", "127.0.0.1:8443", "127.0.0.1:62201"), "address_taken"),
        (("new", "127.0.0.1", "127.0.0.1:1"), "bad_address"),
        (("new", "127.0.0.1:0", "127.0.0.1:1"), "bad_address"),
        (("new", "0.0.0.0:1", "0.0.0.0:1"), "bad_address"),
        (("new", "[::]:1", "[::]:1"), "bad_address"),
        (("new", "127.0.0.1:1", "127.0.0.1:1", "nowhere"), "bad_address"),
    ],
)
async def test_a_gateway_that_cannot_be(office: Office, arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as refused:
        await office.gateways.add(*arguments, actor="admin/0")
    assert refused.value.code == code


async def test_a_gateway_on_every_address_says_where_clients_go(office: Office) -> None:
    await office.gateways.add("any", "0.0.0.0:8443", "0.0.0.0:62201", "gw.example.test:8443", actor="admin/0")
    assert (await office.gateways.listing())[0].advertise == "gw.example.test:8443"
