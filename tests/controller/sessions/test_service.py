"""Sessions on a real database, with and without a gateway that listens."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from sqlalchemy import select, update

from certs import Name, NameKind, make_csr, name_of, new_private_key
from certs.errors import BadCertificate
from controller.errors import StorageUnavailable
from controller.storage.models import Device, Session
from tests.controller.clock import Clock
from tests.controller.perimeter import Machine, Perimeter, Rebuild
from tests.controller.served import Edge, Served
from wire.messages import Revoked, SessionView, StepUpNeeded, ToClient
from wire.messages import Session as SessionMessage


class Ear:
    """A client that listens."""

    def __init__(self) -> None:
        self.heard: list[ToClient] = []
        self.is_replaced = False
        self.told = asyncio.Event()

    def tell(self, message: ToClient) -> None:
        self.heard.append(message)
        self.told.set()

    def replaced(self) -> None:
        self.is_replaced = True


def csr() -> str:
    return make_csr(new_private_key()).decode()


async def row(perimeter: Perimeter, session: UUID) -> Session:
    async with perimeter.storage.read() as db:
        return await db.get_one(Session, session)


async def wiki_for_alice(perimeter: Perimeter, *, gateway: str = "edge", **conditions: object) -> Machine:
    """Alice, her device, and a grant on "wiki" behind the gateway."""
    alice = await perimeter.add_user("alice")
    known = perimeter.directory.current.gateways.get(gateway)
    identifier = known.id if known else await perimeter.add_gateway(gateway)
    wiki = await perimeter.add_resource("wiki", identifier)
    await perimeter.add_grant(alice, wiki, **conditions)
    return await perimeter.enrol("alice")


async def test_a_login_makes_a_session_with_a_certificate_of_its_own(perimeter: Perimeter) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    chain = x509.load_pem_x509_certificates(view.certificate.encode())
    name = name_of(chain, anchors=perimeter.authority.trust.anchors, domain="example.test", now=perimeter.clock())
    assert name == Name("example.test", NameKind.SESSION, str(view.id))
    assert view.valid_until == chain[0].not_valid_after_utc <= perimeter.clock() + timedelta(minutes=10)
    assert [(each.name, each.allowed) for each in view.resources] == [("wiki", True)]
    assert view.lagging == ("edge",), "no gateway is connected"
    stored = await row(perimeter, view.id)
    assert (stored.valid_until, stored.ended_at, stored.source) == (view.valid_until, None, "198.51.100.7")
    [started] = await perimeter.events("session.started")
    assert (started.session, started.user, started.device) == (view.id, "alice", machine.id)
    [decided] = await perimeter.events("decision.made")
    assert (decided.answer, decided.resource) == ("allow", "wiki")
    [lagging] = await perimeter.events("lease.lagging")
    assert (lagging.gateways, lagging.what) == (("edge",), "put")
    async with perimeter.storage.read() as db:
        assert (await db.get_one(Device, machine.id)).last_seen_at == stored.started_at


async def test_the_lease_is_at_the_gateway_before_the_client_is_answered(served: Served, edge: Edge) -> None:
    machine = await wiki_for_alice(served.perimeter)
    view = await served.perimeter.log_in(machine)
    assert view.lagging == ()
    assert edge.leases[view.id].permits[0].resource == "wiki"
    assert edge.leases[view.id].valid_until == view.valid_until


async def test_a_gateway_that_lags_is_named_within_its_time(served: Served, edge: Edge) -> None:
    machine = await wiki_for_alice(served.perimeter)
    edge.lags = True
    async with asyncio.timeout(60):  # it never acknowledges
        view = await served.perimeter.log_in(machine)
    assert view.lagging == ("edge",)


async def test_a_newer_login_replaces_the_session_of_the_device_only(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    other = await perimeter.enrol("alice")
    elsewhere = await perimeter.log_in(other)
    first = await perimeter.log_in(machine)
    ear = Ear()
    perimeter.sessions.attach(first.id, machine.id, ear)
    second = await perimeter.log_in(machine)
    assert {each.id for each in perimeter.sessions.live()} == {second.id, elsewhere.id}
    assert set(edge.leases) == {second.id, elsewhere.id}
    assert [message.code for message in ear.heard] == ["replaced"]
    stored = await row(perimeter, first.id)
    assert (stored.end_code, stored.ended_at is not None) == ("replaced", True)
    [ended] = await perimeter.events("session.ended")
    assert (ended.session, ended.code) == (first.id, "replaced")


async def test_gateways_follow_where_the_client_is_seen(served: Served, edge: Edge) -> None:
    """A login's address first, then that of the connection that keeps the session; its knocks may name it."""
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    assert view.seen_at is not None
    assert edge.leases[view.id].addresses == (view.seen_at,)
    ear = Ear()
    moved = perimeter.sessions.attach(view.id, machine.id, ear, "2001:db8::7")
    assert isinstance(moved, SessionView)
    assert moved.seen_at == "2001:db8::7"
    await perimeter.sessions.follow(view.id)
    assert edge.leases[view.id].addresses == ("2001:db8::7",)
    puts = edge.puts
    await perimeter.sessions.follow(view.id)  # nothing new
    await perimeter.sessions.follow(uuid4())  # nobody
    assert edge.puts == puts
    renewed = await perimeter.sessions.renew(view.id, machine.id, csr())
    assert isinstance(renewed, SessionView)
    assert edge.leases[view.id].addresses == ("2001:db8::7",)


async def test_ending_is_over_when_the_gateway_has_cut_it(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    ear = Ear()
    perimeter.sessions.attach(view.id, machine.id, ear)
    lagging = await perimeter.sessions.end(view.id, "revoked", "because", "admin/0")
    assert lagging == frozenset()
    assert view.id not in edge.leases
    assert edge.dropped[-1].code == "revoked"
    assert isinstance(ear.heard[-1], Revoked)
    [ended] = await perimeter.events("session.ended")
    assert (ended.session, ended.actor, ended.detail) == (view.id, "admin/0", "because")
    assert ended.milliseconds > 0
    assert await perimeter.sessions.end(view.id, "revoked", "because", "admin/0") == frozenset()
    assert len(await perimeter.events("session.ended")) == 1
    assert isinstance(await perimeter.sessions.renew(view.id, machine.id, csr()), Revoked)


async def test_revoking_a_device_ends_its_sessions_and_a_user_all_of_theirs(perimeter: Perimeter) -> None:
    machine = await wiki_for_alice(perimeter)
    second = await perimeter.enrol("alice")
    one, two = await perimeter.log_in(machine), await perimeter.log_in(second)
    revoked = await perimeter.devices.revoke(machine.id, actor="admin")
    assert revoked.sessions == {one.id}
    assert [each.id for each in perimeter.sessions.live()] == [two.id]
    alice = perimeter.directory.current.names["alice"]
    assert set(await perimeter.sessions.end_where(user=alice, actor="admin")) == {two.id}
    assert perimeter.sessions.live() == []


async def test_renewal_moves_the_end_of_certificate_row_and_lease(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    perimeter.clock.pass_(minutes=5)
    renewed = await perimeter.sessions.renew(view.id, machine.id, csr())
    assert renewed.certificate != view.certificate
    assert renewed.valid_until == view.valid_until + timedelta(minutes=5)
    assert edge.leases[view.id].valid_until == renewed.valid_until
    assert (await row(perimeter, view.id)).valid_until == renewed.valid_until
    assert len(await perimeter.events("session.renewed")) == 1


@pytest.mark.parametrize("case", ["late", "others_device", "unknown", "revoked_in_database", "ended_in_database"])
async def test_what_is_not_renewed(perimeter: Perimeter, case: str) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    session, device = view.id, machine.id
    match case:
        case "late":
            perimeter.clock.pass_(minutes=10)
        case "others_device":
            device = uuid4()
        case "unknown":
            session = uuid4()
        case "revoked_in_database":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Device).values(revoked_at=perimeter.clock()))
        case "ended_in_database":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Session).values(ended_at=perimeter.clock()))
    answer = await perimeter.sessions.renew(session, device, csr())
    assert isinstance(answer, Revoked)
    assert await perimeter.events("session.renewed") == []
    if case in {"others_device", "unknown"}:
        assert answer.code == "session_unknown"


async def test_a_renewal_with_a_bad_request_changes_nothing(perimeter: Perimeter) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    with pytest.raises(BadCertificate):
        await perimeter.sessions.renew(view.id, machine.id, "nonsense")
    assert (await row(perimeter, view.id)).valid_until == view.valid_until


async def test_a_session_not_renewed_in_time_ends(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    perimeter.clock.pass_(minutes=10)
    assert perimeter.sessions.live() == []
    assert await perimeter.sessions.leases_for("edge") == ()
    await perimeter.sessions.expire()
    assert (await row(perimeter, view.id)).end_code == "expired"
    assert view.id not in edge.leases


async def test_changed_grants_reach_gateway_and_client(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    ear = Ear()
    perimeter.sessions.attach(view.id, machine.id, ear)
    alice = perimeter.directory.current.names["alice"]
    vault = await perimeter.add_resource("vault", perimeter.directory.current.gateways["edge"].id)
    await perimeter.add_grant(alice, vault)
    await perimeter.sessions.reevaluate()
    assert [permit.resource for permit in edge.leases[view.id].permits] == ["vault", "wiki"]
    [message] = ear.heard
    assert isinstance(message, SessionMessage)
    assert [each.name for each in message.session.resources] == ["vault", "wiki"]
    assert message.session.certificate == "", "only a login or renewal issues one"
    puts = edge.puts
    await perimeter.sessions.reevaluate()
    assert edge.puts == puts, "nothing changed, nothing is said"


async def test_the_age_of_a_login_asks_for_a_step_up_by_itself(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter, mfa_within_seconds=60)
    view = await perimeter.log_in(machine)
    ear = Ear()
    perimeter.sessions.attach(view.id, machine.id, ear)
    perimeter.clock.pass_(seconds=61)
    await perimeter.sessions.reevaluate()
    assert edge.leases[view.id].permits == ()
    assert [denial.code for denial in edge.leases[view.id].denials] == ["mfa_stale"]
    assert any(isinstance(message, StepUpNeeded) for message in ear.heard)
    assert [event.answer for event in await perimeter.events("decision.made")] == ["allow", "step_up"]
    heard = len(ear.heard)
    perimeter.clock.pass_(seconds=61)
    await perimeter.sessions.reevaluate()
    assert len(ear.heard) == heard, "asked once"


async def test_a_disabled_user_is_out_at_the_next_look(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    await perimeter.disable("alice")
    await perimeter.sessions.reevaluate()
    assert perimeter.sessions.live() == []
    assert view.id not in edge.leases


async def test_the_clock_is_looked_at_when_something_is_known_to_change(perimeter: Perimeter) -> None:
    """`run` sleeps an hour at most, and still notices the end of a session at once."""
    machine = await wiki_for_alice(perimeter)
    running = asyncio.create_task(perimeter.sessions.run(timedelta(hours=1)))
    await asyncio.sleep(0)
    view = await perimeter.log_in(machine)
    ear = Ear()
    perimeter.sessions.attach(view.id, machine.id, ear)
    perimeter.clock.pass_(minutes=10)
    await perimeter.log_in(await perimeter.enrol("alice"))  # news: the deadlines are looked at again
    async with asyncio.timeout(60):
        await ear.told.wait()
    assert ear.heard[0].code == "expired"
    running.cancel()


async def test_after_a_restart_live_sessions_go_on(perimeter: Perimeter, rebuild: Rebuild, clock: Clock) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    again = await rebuild(perimeter.storage, clock)
    assert await again.sessions.load() == 1
    [lease] = await again.sessions.leases_for("edge")
    assert (lease.session, lease.valid_until) == (view.id, view.valid_until)
    assert [permit.resource for permit in lease.permits] == ["wiki"]
    clock.pass_(minutes=5)
    renewed = await again.sessions.renew(view.id, machine.id, csr())
    assert renewed.valid_until == view.valid_until + timedelta(minutes=5)
    again.passwords.close()


@pytest.mark.parametrize(
    ("case", "live", "code"),
    [("outage", 1, None), ("too_long", 0, "expired"), ("revoked", 0, "revoked"), ("ended", 0, "logout")],
)
async def test_what_a_restart_finds(
    perimeter: Perimeter, rebuild: Rebuild, clock: Clock, *, case: str, live: int, code: str | None
) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    match case:
        case "outage":
            clock.pass_(minutes=20)
        case "too_long":
            clock.pass_(minutes=26)
        case "revoked":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Device).values(revoked_at=clock()))
        case "ended":
            await perimeter.sessions.end(view.id, "logout", "logged out", "")
    again = await rebuild(perimeter.storage, clock)
    assert await again.sessions.load() == live
    assert (await row(perimeter, view.id)).end_code == code
    if case == "outage":
        assert isinstance(await again.sessions.renew(view.id, machine.id, csr()), type(view))
        clock.pass_(minutes=10)
        assert isinstance(await again.sessions.renew(view.id, machine.id, csr()), Revoked)
    again.passwords.close()


async def test_without_a_database_what_ends_is_cut_all_the_same_and_the_end_can_be_repeated(
    served: Served, edge: Edge
) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    real = perimeter.storage.change

    def broken() -> None:
        raise StorageUnavailable("the database is away")

    perimeter.sessions._ending._storage = type("Away", (), {"change": staticmethod(broken)})()
    with pytest.raises(StorageUnavailable):
        await perimeter.sessions.end(view.id, "revoked", "because", "admin")
    assert view.id not in edge.leases
    assert perimeter.sessions.live() == []
    assert (await row(perimeter, view.id)).ended_at is None
    perimeter.sessions._ending._storage = perimeter.storage
    assert perimeter.storage.change == real
    await perimeter.sessions.end(view.id, "revoked", "because", "admin")
    assert (await row(perimeter, view.id)).end_code == "revoked"


async def test_logins_and_ends_at_once_leave_memory_and_database_of_one_mind(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    machine = await wiki_for_alice(perimeter)
    machines = [machine, *[await perimeter.enrol("alice") for _ in range(4)]]
    views = [await perimeter.log_in(each) for each in machines]
    await asyncio.gather(
        perimeter.sessions.reevaluate(),
        *(perimeter.sessions.renew(view.id, each.id, csr()) for view, each in zip(views, machines, strict=True)),
        *(perimeter.sessions.end(view.id, "revoked", "x", "admin") for view in views[:3]),
        perimeter.sessions.reevaluate(),
        perimeter.devices.revoke(machines[3].id, actor="admin"),
    )
    async with perimeter.storage.read() as db:
        unended = set(await db.scalars(select(Session.id).where(Session.ended_at.is_(None))))
    assert unended == {each.id for each in perimeter.sessions.live()} == {views[4].id}
    assert set(edge.leases) == unended


async def test_explain_is_audited_with_the_truth(perimeter: Perimeter) -> None:
    machine = await wiki_for_alice(perimeter)
    view = await perimeter.log_in(machine)
    told = perimeter.sessions.explain(view.id, "nonsense")
    assert (told.allowed, told.code) == (False, "no_grant")
    assert perimeter.sessions.explain(uuid4(), "wiki") is None
    assert [event.code for event in await perimeter.events("decision.made")] == ["ok", "resource_unknown"]
