"""Logins at a provider, good and bad, over real HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey

from controller.identity.oidc import conversations
from tests.controller.identity.oidc.signer import CLIENT, Signer, drips, elsewhere, forever, oversized, says
from tests.controller.identity.oidc.world import MFA, PORT, World
from tests.controller.perimeter import Perimeter
from wire.messages import OidcBegun, OidcFinished, Refusal


async def begun(world: World, **asked: Any) -> OidcBegun:
    answer = await world.begin(**asked)
    assert isinstance(answer, OidcBegun), answer
    return answer


async def next_login(world: World) -> OidcBegun:
    """One more row of a table: the provider is good again, and its keys are unknown."""
    world.signer.reset()
    world.perimeter.openid.providers._client.forget(world.signer.issuer)
    world.perimeter.clock.pass_(minutes=1)
    return await begun(world)


async def test_a_login_at_the_provider_with_its_second_factor_makes_a_session(world: World) -> None:
    world.signer.claims = {**MFA, "groups": ["Engineering", "Elsewhere"]}
    login = await world.proved()
    reply = await world.login(login)
    assert reply.status == "done", reply
    assert await world.groups() == {"staff"}
    [session] = world.perimeter.sessions.live()
    assert session.methods == {"fed", "mfa"}
    assert world.signer.asked.count("/token") == 1
    sent = world.signer.forms[0]
    assert sent["authorization"].startswith("Basic ")
    assert "client_secret" not in sent
    assert sent["redirect_uri"] == f"http://127.0.0.1:{PORT}/gloam"


async def test_the_browser_is_sent_with_state_nonce_and_s256(world: World) -> None:
    first, second = await begun(world), await begun(world, fresh=True)
    queries = [parse_qs(urlsplit(each.url).query) for each in (first, second)]
    assert queries[0]["code_challenge_method"] == ["S256"]
    assert queries[0]["client_id"] == [CLIENT]
    assert queries[0]["max_age"] == ["43200"]
    assert (queries[1]["max_age"], queries[1]["prompt"]) == (["0"], ["login"])
    for name in ("state", "nonce", "code_challenge"):
        assert len(queries[0][name][0]) == 43
        assert queries[0][name] != queries[1][name]
    assert "verifier" not in first.url


async def test_without_its_word_for_a_second_factor_a_code_is_needed_as_well(world: World) -> None:
    world.signer.claims = {"amr": ["pwd"]}
    login = await world.proved()
    reply = await world.login(login)
    assert (reply.status, [ask.type for ask in reply.asks]) == ("more", ["totp_enrolment"])
    reply = await world.login(login, otp=await world.perimeter.code("alice"))
    assert reply.status == "done"
    assert world.perimeter.sessions.live()[0].methods == {"fed", "otp", "mfa"}


async def test_once_the_provider_vouched_for_a_second_factor_its_password_alone_sets_none_up(world: World) -> None:
    world.signer.claims = MFA
    assert (await world.login(await world.proved())).status == "done"
    world.signer.claims = {"amr": ["pwd"]}
    reply = await world.login(await world.proved())
    assert (reply.status, reply.asks) == ("more", ())


async def test_the_second_factor_is_as_old_as_the_login_at_the_provider(world: World) -> None:
    then = world.perimeter.clock() - timedelta(hours=3)
    world.signer.claims = {**MFA, "auth_time": int(then.timestamp())}
    await world.login(await world.proved())
    assert world.perimeter.sessions.live()[0].mfa_at == then


async def test_a_proof_makes_one_session(world: World) -> None:
    world.signer.claims = MFA
    login = await world.proved()
    replies = await asyncio.gather(world.login(login), world.login(login))
    assert sorted(reply.status for reply in replies) == ["done", "refused"]
    assert (await world.login(login)).code == "login_over"
    again = await world.finish(login, code="code-0", state=login.state)
    assert (again.status, again.code) == ("refused", "login_over")


async def unlinked(world: World) -> None:
    await world.perimeter.openid.identities.unlink("alice", "corp", actor="admin")


async def linked_again(world: World) -> None:
    await unlinked(world)
    world.perimeter.clock.pass_(seconds=1)
    await world.perimeter.openid.identities.link("alice", "corp", "u-1", actor="admin")


async def anothers(world: World) -> None:
    await unlinked(world)
    await world.perimeter.add_user("bob")
    await world.perimeter.openid.identities.link("bob", "corp", "u-1", actor="admin")


async def removed(world: World) -> None:
    await world.perimeter.openid.providers.remove("corp", actor="admin")


async def registered_again(world: World) -> None:
    await removed(world)
    world.perimeter.clock.pass_(seconds=1)
    await world.add_provider(mfa_amr=())


async def disabled(world: World) -> None:
    await world.perimeter.disable("alice")


MEANWHILE: dict[Callable[[World], Awaitable[None]], str] = {
    unlinked: "unlinked",
    linked_again: "unlinked",
    anothers: "unlinked",
    removed: "provider_removed",
    registered_again: "provider_removed",
    disabled: "user_disabled",
}


@pytest.mark.parametrize("change", MEANWHILE, ids=lambda change: change.__name__)
async def test_what_an_administrator_takes_away_before_the_session_is_there_makes_none(
    any_perimeter: Perimeter, signer: Signer, change: Callable[[World], Awaitable[None]]
) -> None:
    world = await World.make(any_perimeter, signer)
    world.signer.claims = MFA
    login = await world.proved()
    await change(world)
    reply = await world.login(login)
    assert reply.status == "refused"
    assert (await world.reasons())[-1][0] == MEANWHILE[change]
    assert not world.perimeter.sessions.live()
    assert (await world.login(login)).status == "refused"  # and it is over


Prepare = Callable[[Signer], object]


def claims(**changed: Any) -> Prepare:
    return lambda signer: signer.claims.update(changed)


def another_key(signer: Signer) -> None:
    signer.key = ECKey.generate_key("P-256", parameters={"kid": "second"})


def same_kid(signer: Signer) -> None:
    signer.key = ECKey.generate_key("P-256", parameters={"kid": "first"})


def instead(path: str, handler: Any) -> Prepare:
    return lambda signer: signer.instead.update({path: handler})


def answers(**changed: Any) -> Prepare:
    return lambda signer: signer.answer.update(changed)


TOKENS: dict[str, tuple[Prepare, str]] = {
    "expired": (claims(exp=1), "token_expired"),
    "not valid yet": (claims(nbf=4_000_000_000), "token_not_yet_valid"),
    "for another audience": (claims(aud="other"), "token_audience"),
    "several audiences without azp": (claims(aud=[CLIENT, "other"]), "token_claim_missing"),
    "unknown kid": (another_key, "token_key_unknown"),
    "signed by somebody else": (same_kid, "token_signature"),
    "wrong nonce": (claims(nonce="n" * 43), "token_nonce"),
    "wrong issuer": (claims(iss="https://evil.example"), "token_issuer"),
    "login too long ago": (claims(auth_time=1), "token_login_too_old"),
    "alg none": (answers(id_token="eyJhbGciOiJub25lIn0.e30."), "token_algorithm"),
    "no ID token": (answers(id_token=None), "no_id_token"),
    "groups that are none": (claims(groups={"a": 1}), "bad_claim"),
    "somebody unknown here": (claims(sub="u-2"), "identity_unknown"),
    **{f"without {name}": (claims(**{name: None}), "token_claim_missing")
       for name in ("iss", "sub", "aud", "exp", "iat", "nonce", "auth_time")},
}  # fmt: skip


async def test_a_bad_token_is_refused_audited_and_told_to_nobody(world: World) -> None:
    for name, (prepare, reason) in TOKENS.items():
        login = await next_login(world)
        prepare(world.signer)
        finished = await world.finish(login)
        assert (finished.status, finished.code) == ("refused", "oidc_refused"), name
        assert finished.sentence == "this login at the provider does not count here"  # one text, whatever it was
        assert "audit log" in finished.fix
        code, detail = (await world.reasons())[-1]
        assert code == reason, name
        assert detail.startswith("provider corp")
        assert (await world.finish(login)).code == "login_over"
    assert (await world.login(login)).code == "login_over"
    assert not world.perimeter.sessions.live()


ANSWERS: dict[str, tuple[Prepare, str]] = {
    "the token endpoint is oversized": (instead("/token", oversized), "provider_misbehaved"),
    "the token endpoint never answers": (instead("/token", forever), "provider_unreachable"),
    "the token endpoint drips": (instead("/token", drips), "provider_unreachable"),
    "the token endpoint sends elsewhere": (instead("/token", elsewhere("http://127.0.0.1:1/")), "provider_misbehaved"),
    "the token endpoint is no JSON": (instead("/token", says("<html>")), "provider_misbehaved"),
    "the token endpoint is a list": (instead("/token", says("[]")), "provider_misbehaved"),
    "the token endpoint is very deep": (instead("/token", says("[" * 100_000)), "provider_misbehaved"),
    "the token endpoint fails": (instead("/token", says("{}", 503)), "provider_unreachable"),
    "the token endpoint says no without a reason": (instead("/token", says("{}", 400)), "provider_misbehaved"),
    "the token endpoint refuses": (lambda s: setattr(s, "refusal", (400, {"error": "invalid_grant"})),
                                   "provider_refused"),
    "no access token": (answers(access_token=None), "provider_misbehaved"),
    "tokens of another kind": (answers(token_type="DPoP"), "provider_misbehaved"),
    "the keys are oversized": (instead("/jwks", oversized), "provider_misbehaved"),
    "the keys never come": (instead("/jwks", forever), "provider_unreachable"),
    "the keys are elsewhere": (instead("/jwks", elsewhere("http://127.0.0.1:1/")), "provider_misbehaved"),
    "the keys are none": (instead("/jwks", says('{"keys": 1}')), "provider_misbehaved"),
}  # fmt: skip


async def test_a_bad_answer_is_refused_and_the_other_way_in_is_told(world: World) -> None:
    for name, (prepare, reason) in ANSWERS.items():
        login = await next_login(world)
        prepare(world.signer)
        finished = await world.finish(login)
        assert (finished.status, finished.code) == ("refused", reason), name
        if reason != "provider_refused":
            assert "corp" in finished.sentence
            assert "gloam login works without it" in finished.fix
        assert (await world.reasons())[-1][0] == reason


REDIRECTS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong state": ({"code": "code-0", "state": "x" * 43}, "redirect_state"),
    "no state": ({"code": "code-0"}, "redirect_state"),
    "another issuer": ({"code": "code-0", "issuer": "https://evil.example"}, "redirect_issuer"),
    "no code": ({"issuer": None}, "redirect_without_code"),
    "declined": ({"error": "access_denied"}, "provider_refused"),
    "a made-up code": ({"code": "code-9"}, "provider_refused"),
}


async def test_a_bad_redirect_is_refused_and_ends_the_login(world: World) -> None:
    for name, (asked, reason) in REDIRECTS.items():
        login = await next_login(world)
        code, state = world.signer.agree(login.url)
        whole = asked if "state" in reason else {"state": state, **asked}
        assert (await world.finish(login, **whole)).status == "refused", name
        assert (await world.reasons())[-1][0] == reason, name
        assert (await world.finish(login, code=code, state=state)).code == "login_over"


async def test_a_wrong_state_that_the_device_refused_is_audited_once_and_ends_nothing(world: World) -> None:
    login = await begun(world)
    for _ in range(3):
        assert (await world.finish(login, stray=True)).status == "pending"
    assert await world.reasons() == [
        ("redirect_state", "provider corp; refused by the device itself; the login goes on")
    ]
    assert (await world.finish(login)).status == "proved"
    assert (await world.finish(login, stray=True)).code == "login_over"


async def test_a_provider_that_says_its_issuer_must_say_it(world: World) -> None:
    world.signer.metadata["authorization_response_iss_parameter_supported"] = True
    world.perimeter.openid.providers._client.forget(world.signer.issuer)
    for issuer, status in ((None, "refused"), (world.signer.issuer, "proved")):
        login = await begun(world)
        code, state = world.signer.agree(login.url)
        assert (await world.finish(login, code=code, state=state, issuer=issuer)).status == status


async def test_a_login_belongs_to_the_device_that_began_it(world: World) -> None:
    other = await world.perimeter.enrol("alice")
    login = await begun(world)
    code, state = world.signer.agree(login.url)
    assert (await world.finish(login, other, code=code, state=state)).code == "login_over"
    assert (await world.finish(login, code=code, state=state)).status == "proved"
    assert (await world.login(login, other)).code == "login_over"


async def test_an_identity_counts_on_its_users_device_alone(world: World) -> None:
    await world.perimeter.add_user("bob")
    machine = await world.perimeter.enrol("bob")
    answer = await world.begin(machine)
    assert isinstance(answer, OidcBegun)
    assert (await world.finish(answer, machine)).code == "oidc_refused"
    await world.perimeter.disable("alice")
    assert (await world.finish(await begun(world))).code == "oidc_refused"
    assert [code for code, _ in await world.reasons()] == ["others_device", "user_disabled"]


async def test_refusals_name_the_devices_owner_to_the_audit_log(world: World) -> None:
    await world.begin(provider="nowhere")
    await world.finish(await begun(world), error="access_denied")
    refused = [event.model_dump() for event in await world.perimeter.events("login.refused")]
    assert [each["user"] for each in refused] == ["alice", "alice"]


async def test_a_login_ends_at_its_deadline(world: World) -> None:
    login = await begun(world)
    world.perimeter.clock.pass_(minutes=10)
    assert (await world.finish(login)).code == "login_over"
    login = await world.proved()
    world.perimeter.clock.pass_(minutes=10)
    assert (await world.login(login)).code == "login_over"


async def test_logins_under_way_are_bounded(world: World) -> None:
    first = [await begun(world) for _ in range(conversations.MOST_OF_DEVICE + 1)]
    assert (await world.finish(first[0])).code == "login_over"
    assert (await world.finish(first[-1])).status == "proved"
    for _ in range(conversations.MOST_BEGUN - len(first)):
        await begun(world)
    refused = await world.begin()
    assert isinstance(refused, Refusal)
    assert refused.code == "too_many_attempts"
    world.perimeter.clock.pass_(minutes=1)
    await begun(world)


async def test_two_answers_at_once_are_one(world: World) -> None:
    login = await begun(world)
    code, state = world.signer.agree(login.url)
    both = await asyncio.gather(*(world.finish(login, code=code, state=state) for _ in range(2)))
    assert sorted(each.status for each in both) == ["proved", "refused"]


async def test_new_keys_are_asked_for_once_a_minute(world: World) -> None:
    await world.proved()
    another_key(world.signer)
    world.signer.jwks = Signer.published(world.signer.key)
    await world.proved()  # rotation survived, at once
    world.signer.key = ECKey.generate_key("P-256", parameters={"kid": "third"})
    asked = world.signer.asked.count("/jwks")
    for _ in range(5):
        assert (await world.finish(await begun(world))).status == "refused"
    assert world.signer.asked.count("/jwks") == asked  # made-up tokens do not make us ask
    world.perimeter.clock.pass_(minutes=1, seconds=1)
    for _ in range(2):
        assert (await world.finish(await begun(world))).status == "refused"
    assert world.signer.asked.count("/jwks") == asked + 1


async def test_an_outage_is_told_and_passwords_still_work(world: World) -> None:
    await world.proved()
    await world.signer.stop()
    refused = await world.begin()
    assert isinstance(refused, Refusal)
    assert refused.code == "provider_unreachable"
    assert refused.sentence == "the identity provider corp does not answer at present"
    await world.perimeter.log_in(world.laptop)
    await world.signer.start()
    await world.proved()


async def test_which_provider(world: World) -> None:
    refused = await world.begin(provider="nowhere")
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.fix) == ("no_provider", "there are: corp")
    assert await world.reasons() == [("no_provider", "provider nowhere")]
    assert (await begun(world, provider="corp")).provider == "corp"
    await world.perimeter.openid.providers.remove("corp", actor="admin")
    refused = await world.begin()
    assert isinstance(refused, Refusal)
    assert refused.fix == "run gloam login without --oidc"


async def test_groups_come_from_the_userinfo_endpoint_where_the_token_has_none(world: World) -> None:
    world.signer.metadata["userinfo_endpoint"] = f"{world.signer.issuer}/userinfo"
    world.perimeter.openid.providers._client.forget(world.signer.issuer)
    world.signer.userinfo = {"sub": "u-1", "groups": ["Engineering"]}
    await world.proved()
    assert await world.groups() == {"staff"}
    world.signer.userinfo = {"sub": "u-2", "groups": ["Engineering"]}
    assert (await world.finish(await begun(world))).code == "provider_misbehaved"


async def test_no_secret_is_in_what_is_logged_or_shown(world: World, perimeter: Perimeter) -> None:
    login = await begun(world)
    found = perimeter.openid.federation._conversations.find(login.login, world.laptop.id, perimeter.clock())
    assert login.state is not None
    assert login.state not in repr(found)
    assert login.state not in repr(login)
    assert "s3cret" not in repr(found)
    code, state = world.signer.agree(login.url)
    assert isinstance(await world.finish(login, code=code, state=state), OidcFinished)
    for event in await perimeter.events():
        assert state not in event.model_dump_json()
        assert "s3cret" not in event.model_dump_json()
