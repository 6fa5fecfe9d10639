"""Logins by a code that is typed in another machine's browser (RFC 8628), over real HTTP."""

from tests.controller.identity.oidc.world import MFA, World
from wire.messages import OidcBegun


async def begun(world: World) -> OidcBegun:
    answer = await world.begin(port=None)
    assert isinstance(answer, OidcBegun), answer
    return answer


async def test_the_device_flow(world: World) -> None:
    world.signer.claims = MFA
    login = await begun(world)
    assert (login.user_code, login.state, login.interval_seconds) == ("ABCD-EFGH", None, 5)
    world.signer.refusal = (400, {"error": "authorization_pending"})
    asked = world.signer.asked.count("/token")
    assert (await world.finish(login, code=None)).status == "pending"
    assert world.signer.asked.count("/token") == asked  # too early: the provider is not troubled
    world.perimeter.clock.pass_(seconds=6)
    assert (await world.finish(login, code=None)).interval_seconds == 5
    world.perimeter.clock.pass_(seconds=6)
    world.signer.refusal = (400, {"error": "slow_down"})
    assert (await world.finish(login, code=None)).interval_seconds == 10
    world.perimeter.clock.pass_(seconds=11)
    world.signer.refusal = None
    assert (await world.finish(login, code=None)).status == "proved"
    reply = await world.login(login)  # the provider did not say when the person logged in: its word is one factor
    assert (reply.status, [ask.type for ask in reply.asks]) == ("more", ["totp_enrolment"])


async def test_a_device_flow_that_is_declined(world: World) -> None:
    login = await begun(world)
    world.perimeter.clock.pass_(seconds=6)
    world.signer.refusal = (400, {"error": "access_denied"})
    finished = await world.finish(login, code=None)
    assert (finished.code, finished.sentence) == ("provider_refused", "the login was declined at the provider")
    assert (await world.reasons())[-1] == ("provider_refused", "provider corp; access_denied")
