"""Sessions are confirmed by the provider, again and again."""

from datetime import timedelta

from sqlalchemy import delete, select

from controller.identity.oidc.recheck import refresh_context
from controller.storage.models import FederatedIdentity, FederatedSession
from tests.controller.identity.oidc.signer import says
from tests.controller.identity.oidc.world import MFA, World
from wire.messages import StepUpNeeded, ToClient


async def logged_in(world: World, **claims: object) -> None:
    world.signer.claims = {**MFA, "groups": ["Engineering"], **claims}
    assert (await world.login(await world.proved())).status == "done"
    world.signer.claims.pop("auth_time", None)


async def later(world: World, **time: float) -> int:
    """How often the provider was asked for tokens at the next look."""
    before = world.signer.asked.count("/token")
    world.perimeter.clock.pass_(**time)
    await world.perimeter.openid.rechecks.sweep()
    return world.signer.asked.count("/token") - before


async def ended(world: World) -> tuple[str, str]:
    [event] = await world.perimeter.events("session.ended")
    return event.code, event.detail  # type: ignore[attr-defined]


async def test_groups_follow_the_provider(world: World) -> None:
    await logged_in(world)
    assert await world.groups() == {"staff"}
    assert await later(world, minutes=9) == 0
    world.signer.claims["groups"] = []
    assert await later(world, minutes=2) == 1
    assert await world.groups() == frozenset()
    assert world.signer.forms[-1]["refresh_token"] == "refresh-1"
    assert await later(world, minutes=11) == 1
    assert world.signer.forms[-1]["refresh_token"] == "refresh-2"  # each answer's token replaces the one before


async def test_the_refresh_token_is_sealed_and_goes_with_the_session(world: World) -> None:
    await logged_in(world)
    storage = world.perimeter.storage
    async with storage.read() as db:
        row = (await db.scalars(select(FederatedSession))).one()
    assert row.sealed_refresh is not None
    assert b"refresh" not in row.sealed_refresh
    assert storage.sealer.open(row.sealed_refresh, refresh_context(row.session_id)).reveal() == b"refresh-1"
    await world.perimeter.sessions.end(row.session_id, "logged_out", "", "alice")
    await world.perimeter.openid.rechecks.sweep()
    async with storage.read() as db:
        assert (await db.scalars(select(FederatedSession))).all() == []


async def test_a_refused_refresh_ends_the_session_and_says_why(world: World) -> None:
    await logged_in(world)
    world.signer.refusal = (400, {"error": "invalid_grant"})
    await later(world, minutes=11)
    assert await ended(world) == ("provider_refused", "the identity provider corp no longer confirms your login")
    [event] = await world.perimeter.events("provider.trouble")
    assert (event.code, event.detail) == ("refused", "it says invalid_grant")  # type: ignore[attr-defined]


async def test_a_bad_token_at_a_refresh_ends_the_session(world: World) -> None:
    await logged_in(world)
    world.signer.claims["sub"] = "u-2"
    await later(world, minutes=11)
    assert (await ended(world))[0] == "provider_refused"


async def test_an_outage_ends_the_session_only_after_the_grace(world: World) -> None:
    await logged_in(world)
    world.signer.instead["/token"] = says("{}", 503)
    for minutes in (11, 11, 11, 11, 11, 11):  # 66 minutes: less than ten and an hour
        await later(world, minutes=minutes)
        assert len(await world.perimeter.events("session.ended")) == 0
    assert len(await world.perimeter.events("provider.trouble")) == 1
    await later(world, minutes=11)
    code, sentence = await ended(world)
    assert code == "provider_unreachable"
    assert sentence.startswith("the identity provider corp has not confirmed your login since ")


async def test_at_the_graces_end_nothing_is_asked_any_more(world: World) -> None:
    await logged_in(world)
    world.signer.instead["/token"] = says("{}", 503)
    await later(world, minutes=69, seconds=45)
    rechecks = world.perimeter.openid.rechecks
    await rechecks.end_overdue()
    assert len(await world.perimeter.events("session.ended")) == 0
    world.perimeter.clock.pass_(seconds=15)  # sooner than the next question
    asked = world.signer.asked.count("/token")
    await rechecks.end_overdue()
    assert (await ended(world))[0] == "provider_unreachable"
    assert world.signer.asked.count("/token") == asked
    assert not world.perimeter.sessions.live()


async def test_a_session_nobody_was_asked_about_yet_is_not_overdue(world: World) -> None:
    await logged_in(world)
    world.perimeter.clock.pass_(hours=3)  # the controller was away
    await world.perimeter.openid.rechecks.end_overdue()
    assert await later(world) == 1
    assert len(await world.perimeter.events("session.ended")) == 0


async def test_an_outage_keeps_no_session_whose_identity_is_no_longer_the_users(world: World) -> None:
    await logged_in(world)
    world.signer.instead["/token"] = says("{}", 503)
    async with world.perimeter.storage.change() as change:  # as another controller does, which ends its own sessions
        await change.db.execute(delete(FederatedIdentity))
    assert await later(world, minutes=11) == 0
    assert (await ended(world))[0] == "unlinked"


class Listening:
    def __init__(self) -> None:
        self.told: list[StepUpNeeded] = []

    def tell(self, message: ToClient) -> None:
        if isinstance(message, StepUpNeeded):
            self.told.append(message)

    def replaced(self) -> None:
        raise AssertionError


async def test_the_person_is_told_until_when_an_outage_lets_them_live_and_when_it_is_over(world: World) -> None:
    await logged_in(world)
    sessions, listening = world.perimeter.sessions, Listening()
    sessions.attach(sessions.live()[0].id, world.laptop.id, listening)
    end = world.perimeter.clock() + timedelta(minutes=70)
    world.signer.instead["/token"] = says("{}", 503)
    await later(world, minutes=11)
    await later(world, minutes=11)
    del world.signer.instead["/token"]
    await later(world, minutes=2)
    await later(world, minutes=11)
    lives = f"the identity provider corp does not confirm your login: your session ends at {end:%H:%M} UTC"
    again = "the identity provider corp confirms your login again"
    assert [(each.sentence, bool(each.fix)) for each in listening.told] == [
        (lives, True),
        (lives, True),
        (again, False),
    ]
    assert {each.code for each in listening.told} == {"provider_unreachable"}


async def test_an_outage_that_passes_costs_nothing(world: World) -> None:
    await logged_in(world)
    for error in ("invalid_client", "temporarily_unavailable"):
        world.signer.refusal = (400, {"error": error})
        await later(world, minutes=11)
    world.signer.refusal = None
    assert await later(world, minutes=11) == 1
    await later(world, minutes=65)
    assert len(await world.perimeter.events("session.ended")) == 0


async def test_without_a_refresh_token_the_session_ends_after_the_grace(world: World) -> None:
    world.signer.answer["refresh_token"] = None
    await logged_in(world)
    assert await later(world, minutes=69) == 0
    assert len(await world.perimeter.events("session.ended")) == 0
    await later(world, minutes=2)
    assert (await ended(world))[0] == "provider_unreachable"


async def test_a_removed_provider_and_an_unlinked_identity_end_their_sessions(world: World) -> None:
    await logged_in(world)
    assert await world.perimeter.openid.identities.unlink("alice", "corp", actor="admin") == 1
    assert (await ended(world))[0] == "unlinked"
    assert await world.groups() == frozenset()
    await world.perimeter.openid.identities.link("alice", "corp", "u-1", actor="admin")
    world.perimeter.clock.pass_(minutes=2)
    await logged_in(world)
    assert await world.perimeter.openid.providers.remove("corp", actor="admin") == 1
    assert [event.code for event in await world.perimeter.events("session.ended")][-1] == "provider_removed"  # type: ignore[attr-defined]
    assert await world.groups() == frozenset()
