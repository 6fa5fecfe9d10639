"""Rotation over a real database and a real link; lifetimes pass by the services' clock."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from certs import Name, NameKind, Purpose, make_csr, new_private_key
from certs.issue import sign_intermediate
from controller.authority import Rotation
from controller.authority.authority import open_root
from controller.authority.rotation import Holder
from controller.authority.rules import Standing, Times
from controller.errors import Refused
from tests.controller.perimeter import Perimeter, Rebuild
from tests.controller.served import Edge

TIMES = Times(timedelta(minutes=10), timedelta(days=30), timedelta(days=30), timedelta(minutes=15))
PATIENCE = 30
SESSION = Holder("session", str(uuid4()), "alice")


class Made:
    """A rotation, and what it asked for."""

    def __init__(self, perimeter: Perimeter) -> None:
        self.perimeter = perimeter
        self.sessions: list[Any] = []
        self.out: list[Holder] = []
        self.announced: list[str] = []
        self.rotation = Rotation(
            storage=perimeter.storage,
            authority=perimeter.authority,
            times=TIMES,
            clock=perimeter.clock,
            sessions=lambda: self.sessions,
            trusting=perimeter.links.trusting,
            announce=self._announce,
            cast_out=self._cast_out,
        )

    async def _announce(self) -> None:
        self.announced.append(self.perimeter.authority.trust_pem)
        await self.perimeter.links.trust_changed(1)

    async def _cast_out(self, holders: Any) -> None:
        self.out += holders

    async def standings(self, purpose: Purpose) -> list[str]:
        return [view.standing for view in await self.rotation.show() if view.purpose == purpose]

    def issuer(self, kind: NameKind, identifier: str) -> Any:
        name = Name("example.test", kind, identifier)
        request = make_csr(new_private_key()).decode()
        return self.perimeter.authority.issue(
            name, request, now=self.perimeter.clock(), lifetime=timedelta(hours=1)
        ).issuer


@pytest.fixture
async def made(perimeter: Perimeter) -> Made:
    perimeter.clock.pass_(seconds=2)
    return Made(perimeter)


async def test_devices_are_issued_by_the_new_one_at_once_and_the_old_one_goes_when_nothing_hangs_on_it(
    made: Made,
) -> None:
    await made.perimeter.add_user("alice")
    await made.perimeter.enrol("alice")
    view = await made.rotation.rotate(Purpose.DEVICES, actor="root")
    assert view.standing is Standing.ISSUING
    assert made.issuer(NameKind.DEVICE, str(uuid4())) == view.id
    assert await made.standings(Purpose.DEVICES) == ["retiring", "issuing"]
    old = (await made.rotation.show())[0]
    assert old.hangs == 1
    assert old.ends == made.perimeter.clock() + TIMES.device
    made.perimeter.clock.pass_(days=29)
    await made.rotation.advance()
    assert len(made.perimeter.authority.trust.anchors[Purpose.DEVICES]) == 2
    made.perimeter.clock.pass_(days=1)
    await made.rotation.advance()
    assert await made.standings(Purpose.DEVICES) == ["retired", "issuing"]
    authority = made.perimeter.authority
    assert authority.trust.anchors[Purpose.DEVICES] == (authority.issuing(Purpose.DEVICES),)


@pytest.mark.parametrize("purpose", [Purpose.SESSIONS, Purpose.SERVICES])
async def test_the_next_issues_once_a_connected_gateway_has_it_in_force(
    made: Made, edge: Edge, purpose: Purpose
) -> None:
    edge.lags = True
    view = await made.rotation.rotate(purpose, actor="root")
    assert (view.standing, view.waits_for) == (Standing.NEXT, ("edge",))
    kind, identifier = (
        (NameKind.SESSION, str(uuid4())) if purpose is Purpose.SESSIONS else (NameKind.CONTROLLER, "main")
    )
    assert made.issuer(kind, identifier) != view.id
    with pytest.raises(Refused) as caught:
        await made.rotation.rotate(purpose, actor="root")
    assert caught.value.code == "under_way"
    await edge.acknowledge()
    async with asyncio.timeout(PATIENCE):
        while not made.perimeter.links.trusting("edge"):
            await made.rotation.show()
    await made.rotation.advance()
    assert made.issuer(kind, identifier) == view.id


async def test_a_gateway_that_can_have_no_lease_is_not_waited_for(made: Made) -> None:
    await made.perimeter.add_gateway("away")
    view = await made.rotation.rotate(Purpose.SESSIONS, actor="root")
    assert view.standing is Standing.NEXT
    made.perimeter.clock.pass_(minutes=25)
    await made.rotation.advance()
    assert await made.standings(Purpose.SESSIONS) == ["retiring", "issuing"]


async def test_a_rotation_goes_on_after_a_restart(made: Made, rebuild: Rebuild) -> None:
    await made.perimeter.add_gateway("away")
    view = await made.rotation.rotate(Purpose.SESSIONS, actor="root")
    again = Made(await rebuild(made.perimeter.storage, made.perimeter.clock))
    made.perimeter.clock.pass_(minutes=25)
    await again.rotation.advance()
    assert again.issuer(NameKind.SESSION, str(uuid4())) == view.id


async def test_a_rotation_in_the_same_second_as_the_last_is_refused(made: Made) -> None:
    await made.rotation.rotate(Purpose.DEVICES, actor="root")
    with pytest.raises(Refused) as caught:
        await made.rotation.rotate(Purpose.DEVICES, actor="root")
    assert caught.value.code == "too_soon"


async def test_at_once_distrusts_all_before_it_and_casts_out_who_hangs_on_them(made: Made) -> None:
    made.sessions = [(SESSION, made.perimeter.clock() + TIMES.session)]
    losing = await made.rotation.losing(Purpose.SESSIONS)
    view = await made.rotation.rotate(Purpose.SESSIONS, actor="root", at_once=True)
    assert losing == made.out == [SESSION]
    assert await made.standings(Purpose.SESSIONS) == ["retired", "issuing"]
    authority = made.perimeter.authority
    assert authority.trust.anchors[Purpose.SESSIONS] == (authority.issuing(Purpose.SESSIONS),)
    assert made.announced[-1] == made.perimeter.authority.trust_pem
    assert made.issuer(NameKind.SESSION, str(uuid4())) == view.id


async def test_one_that_issues_is_not_retired_and_a_retiring_one_names_who_hangs_on_it(made: Made) -> None:
    await made.perimeter.add_user("alice")
    machine = await made.perimeter.enrol("alice")
    first = next(view for view in await made.rotation.show() if view.purpose == "devices")
    with pytest.raises(Refused) as caught:
        await made.rotation.retire(first.id, actor="root")
    assert caught.value.code == "issuing"
    await made.rotation.rotate(Purpose.DEVICES, actor="root")
    assert [each.id for each in await made.rotation.retire(first.id, actor="root")] == [str(machine.id)]
    assert [each.id for each in made.out] == [str(machine.id)]
    with pytest.raises(Refused) as caught:
        await made.rotation.retire(first.id, actor="root")
    assert caught.value.code == "retired"


async def test_sessions_hang_on_the_one_that_issued_when_they_were_renewed(made: Made) -> None:
    now = made.perimeter.clock()
    made.sessions = [(SESSION, now + TIMES.session)]
    made.perimeter.clock.pass_(seconds=5)
    await made.rotation.rotate(Purpose.SESSIONS, actor="root")
    assert [view.hangs for view in await made.rotation.show() if view.purpose == "sessions"] == [1, 0]
    made.sessions = [(SESSION, made.perimeter.clock() + TIMES.session)]
    assert [view.hangs for view in await made.rotation.show() if view.purpose == "sessions"] == [0, 1]


async def test_a_connection_older_than_the_distrust_of_its_certificate_is_refused(made: Made) -> None:
    await made.perimeter.add_user("alice")
    machine = await made.perimeter.enrol("alice")
    assert made.perimeter.authority.signed(machine.identity.leaf)
    await made.rotation.rotate(Purpose.DEVICES, actor="root")
    assert made.perimeter.authority.signed(machine.identity.leaf)
    made.perimeter.clock.pass_(seconds=2)
    await made.rotation.rotate(Purpose.DEVICES, actor="root", at_once=True)
    assert not made.perimeter.authority.signed(machine.identity.leaf)


async def test_a_certificate_signed_elsewhere_begins_only_if_it_is_what_was_asked_for(made: Made) -> None:
    async with made.perimeter.storage.read() as db:
        root = await open_root(db, made.perimeter.storage.sealer)
    assert root is not None
    older, _ = await made.rotation.request(Purpose.DEVICES, actor="root")
    csr, _ = await made.rotation.request(Purpose.DEVICES, actor="root")
    now = made.perimeter.clock()

    def signed(request: bytes, purpose: Purpose = Purpose.DEVICES, days: int = 0) -> Any:
        return sign_intermediate(root, request, purpose, "example.test", now=now + timedelta(days=days))

    for certificate, code in (
        (signed(older), "not_ours"),  # replaced by the newer request
        (signed(csr, Purpose.SERVICES), "unfit_certificate"),
        (signed(csr, days=2), "unfit_certificate"),
    ):
        with pytest.raises(Refused) as caught:
            await made.rotation.install(certificate, actor="root")
        assert caught.value.code == code
    assert await made.standings(Purpose.DEVICES) == ["issuing"]
    good = signed(csr)
    assert await made.rotation.install(good, actor="root", sure=False) is Purpose.DEVICES
    await made.rotation.install(good, actor="root")
    assert await made.standings(Purpose.DEVICES) == ["retiring", "issuing"]
    with pytest.raises(Refused) as caught:  # used once
        await made.rotation.install(good, actor="root")
    assert caught.value.code == "not_ours"
