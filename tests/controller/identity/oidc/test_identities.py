"""Who a provider's people are here: links, users made at a first login, devices that are claimed; providers."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from certs import Identity, make_csr, new_private_key, private_key_pem
from controller.errors import Refused
from controller.identity.oidc.providers import ProviderSettings
from controller.identity.oidc.rules import BadClaim, Registration, user_name
from tests.controller.identity.oidc.signer import CLIENT, SECRET, Signer, elsewhere, forever, says
from tests.controller.identity.oidc.world import MFA, World
from tests.controller.perimeter import BINDING, SOURCE, Machine, Perimeter
from wire.messages import EnrolReply, OidcBegun


@pytest.fixture
async def everywhere(any_perimeter: Perimeter, signer: Signer) -> World:
    """On each kind of database."""
    return await World.make(any_perimeter, signer, creates_users=True)


@pytest.fixture
async def creating(perimeter: Perimeter, signer: Signer) -> World:
    return await World.make(perimeter, signer, creates_users=True)


async def invited(world: World) -> Machine:
    """A machine enrolled with an invite for people of the provider: nobody's yet."""
    key = new_private_key()
    invite = await world.perimeter.invites.for_provider("corp", actor="admin")
    request = world.perimeter.request(invite, csr=make_csr(key).decode())
    reply = await world.perimeter.enrolment.enrol(request, binding=BINDING, source=SOURCE)
    assert isinstance(reply, EnrolReply)
    assert reply.user == ""
    from uuid import UUID

    return Machine(UUID(reply.id), "", reply, Identity.from_pem(private_key_pem(key), reply.certificate.encode()))


async def attempt(world: World, machine: Machine) -> str:
    begun = await world.begin(machine)
    assert isinstance(begun, OidcBegun)
    return (await world.finish(begun, machine)).code


async def test_the_first_login_makes_the_user_and_the_device_theirs(everywhere: World) -> None:
    machine = await invited(everywhere)
    everywhere.signer.claims = {**MFA, "sub": "u-9", "preferred_username": "Zoë.Q", "groups": ["Engineering"]}
    reply = await everywhere.login(await everywhere.proved(machine), machine)
    assert reply.status == "done"
    assert reply.session is not None
    assert reply.session.user == "zo-.q@corp"
    assert await everywhere.groups("zo-.q@corp") == {"staff"}
    assert [each.user for each in await everywhere.perimeter.devices.list() if each.id == machine.id] == ["zo-.q@corp"]
    second = await invited(everywhere)
    await everywhere.proved(second)  # the same person, another machine: the same user
    users = {view.user for view in await everywhere.perimeter.openid.identities.listing()}
    assert users == {"alice", "zo-.q@corp"}


async def test_somebody_linked_claims_a_machine_without_a_new_user(world: World) -> None:
    machine = await invited(world)
    world.signer.claims = MFA
    assert (await world.login(await world.proved(machine), machine)).status == "done"
    assert {each.user for each in await world.perimeter.devices.list()} == {"alice"}


async def test_users_are_made_only_where_the_provider_may(world: World) -> None:
    machine = await invited(world)
    world.signer.claims = {"sub": "u-9", "preferred_username": "zoe"}
    assert await attempt(world, machine) == "oidc_refused"
    assert (await world.reasons())[-1] == ("identity_unknown", "provider corp; subject u-9")


async def test_no_user_is_made_on_somebodys_device_nor_for_a_name_that_is_taken(creating: World) -> None:
    creating.signer.claims = {"sub": "u-9", "preferred_username": "zoe"}
    assert await attempt(creating, creating.laptop) == "oidc_refused"
    await creating.perimeter.add_user("zoe@corp")
    machine = await invited(creating)
    assert await attempt(creating, machine) == "oidc_refused"
    creating.signer.claims = {"sub": "u-9"}
    assert await attempt(creating, machine) == "oidc_refused"
    assert [code for code, _ in await creating.reasons()] == ["identity_unknown", "name_taken", "bad_claim"]


async def test_one_invite_makes_one_user_whoever_is_first(everywhere: World) -> None:
    machine = await invited(everywhere)
    logins = []
    for subject in ("u-8", "u-9"):
        begun = await everywhere.begin(machine)
        assert isinstance(begun, OidcBegun)
        logins.append((begun, subject))
    identities = everywhere.perimeter.openid.identities
    claims = (
        identities.claim(machine.id, everywhere.signer.issuer, subject, f"{subject}@corp") for _, subject in logins
    )
    done = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(each, Exception) for each in done) == 1
    made = {view.user for view in await identities.listing()} - {"alice"}
    assert len(made) == 1


async def test_a_password_login_on_nobodys_device_is_refused(world: World) -> None:
    machine = await invited(world)
    reply = await world.perimeter.ask_login(machine, user="alice")
    assert (reply.status, reply.code) == ("refused", "bad_credentials")


@pytest.mark.parametrize("said", [None, "", "@@@", 7, "ü", "x" * 70])
def test_names_that_make_no_user(said: Any) -> None:
    with pytest.raises(BadClaim):
        user_name(Registration("corp", "https://i.example", "c"), {"preferred_username": said})


async def test_links_are_one_to_one(world: World) -> None:
    identities = world.perimeter.openid.identities
    await identities.link("alice", "corp", "u-1", actor="admin")  # again is once
    await world.perimeter.add_user("bob")
    for user, subject, code in (("bob", "u-1", "linked"), ("bob", "", "bad_subject"), ("bob", "a\nb", "bad_subject"),
                                ("bub", "u-2", "not_found")):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await identities.link(user, "corp", subject, actor="admin")
        assert refused.value.code == code
    with pytest.raises(Refused, match="no identity"):
        await identities.unlink("bob", "corp", actor="admin")
    assert [(each.user, each.provider, each.subject) for each in await identities.listing("alice")] == [
        ("alice", "corp", "u-1")
    ]


async def test_no_groups_are_given_by_what_was_taken_away_while_the_provider_was_asked(everywhere: World) -> None:
    openid, names = everywhere.perimeter.openid, frozenset({"staff"})
    registration = (await openid.providers.registrations())["corp"]
    alice = await openid.identities.user_of(everywhere.signer.issuer, "u-1")
    assert alice is not None
    await openid.identities.set_groups(alice, registration, names)
    assert await everywhere.groups() == names
    await openid.identities.unlink("alice", "corp", actor="admin")
    await openid.identities.set_groups(alice, registration, names)
    assert await everywhere.groups() == frozenset()
    await openid.identities.link("alice", "corp", "u-1", actor="admin")
    await openid.providers.remove("corp", actor="admin")
    await openid.identities.set_groups(alice, registration, names)
    assert await everywhere.groups() == frozenset()


async def test_identities_of_a_removed_provider_are_unlinked_by_their_issuer(world: World) -> None:
    identities = world.perimeter.openid.identities
    await world.perimeter.openid.providers.remove("corp", actor="admin")
    [view] = await identities.listing("alice")
    assert (view.provider, view.issuer) == (None, world.signer.issuer)
    for provider, issuer, code, fix in (
        ("corp", None, "not_found", "--issuer"),
        (None, "https://elsewhere.example", "not_linked", "user links"),
        ("corp", view.issuer, "bad_unlink", "--issuer"),
        (None, None, "bad_unlink", "--issuer"),
    ):
        with pytest.raises(Refused) as refused:
            await identities.unlink("alice", provider, issuer=issuer, actor="admin")
        assert (refused.value.code, fix in refused.value.fix) == (code, True)
    assert await identities.unlink("alice", None, issuer=view.issuer, actor="admin") == 0
    assert await identities.listing() == []


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is none": ({"name": "Corp!"}, "bad_name"),
    "the name again": ({"name": "corp"}, "exists"),
    "the issuer again": ({}, "exists"),
    "plain http": ({"issuer": "http://login.example.com"}, "bad_issuer"),
    "a query": ({"issuer": "https://login.example.com/?a"}, "bad_issuer"),
    "no address": ({"issuer": "login.example.com"}, "bad_issuer"),
    "somebody in the address": ({"issuer": "https://a:b@login.example.com"}, "bad_issuer"),
    "nobody there": ({"issuer": "http://127.0.0.1:1"}, "provider_unreachable"),
    "no client": ({"client_id": ""}, "bad_client"),
    "HS256": ({"settings": {"algorithms": ("HS256",)}}, "bad_algorithm"),
    "none": ({"settings": {"algorithms": ("none",)}}, "bad_algorithm"),
    "no openid": ({"settings": {"scopes": ("profile",)}}, "bad_scope"),
    "groups without a claim": ({"settings": {"groups": {"a": "staff"}}}, "bad_groups"),
    "a group there is not": ({"settings": {"groups_claim": "g", "groups": {"a": "stuff"}}}, "not_found"),
    "no time": ({"settings": {"recheck": timedelta(0)}}, "bad_duration"),
}


async def test_a_provider_that_cannot_be_is_not_added(world: World) -> None:
    other = Signer()
    await other.start()
    for name, (changed, code) in BAD.items():
        issuer = world.signer.issuer if name == "the issuer again" else other.issuer
        asked = {"name": "other", "issuer": issuer, "client_id": CLIENT, "settings": {}, **changed}
        settings = ProviderSettings(**asked["settings"])
        with pytest.raises(Refused) as refused:
            await world.perimeter.openid.providers.add(
                asked["name"], asked["issuer"], asked["client_id"], None, settings, actor="a"
            )
        assert refused.value.code == code, name
        assert refused.value.fix
    await other.stop()


DESCRIPTIONS: dict[str, Any] = {
    "another issuer": {"issuer": "https://evil.example"},
    "no PKCE": {"code_challenge_methods_supported": ["plain"]},
    "no code flow": {"response_types_supported": ["id_token"]},
    "an endpoint without TLS": {"token_endpoint": "http://login.example.com/token"},
    "no endpoint": {"authorization_endpoint": None},
    "an endpoint with a fragment": {"jwks_uri": "https://login.example.com/#keys"},
}


async def test_a_provider_that_describes_itself_wrongly_is_not_added(world: World, signer: Signer) -> None:
    other = Signer()
    await other.start()
    good = other.metadata
    handlers = {
        "elsewhere": elsewhere(signer.issuer),
        "slow": forever,
        "no JSON": says("<html>"),
        "404": says("{}", 404),
    }
    for name in (*DESCRIPTIONS, *handlers):
        other.metadata = {**good, **DESCRIPTIONS.get(name, {})}
        other.instead = {"/.well-known/openid-configuration": handlers[name]} if name in handlers else {}
        with pytest.raises(Refused) as refused:
            await world.perimeter.openid.providers.add(
                "other", other.issuer, CLIENT, None, ProviderSettings(), actor="a"
            )
        assert refused.value.code == ("provider_unreachable" if name == "slow" else "provider_unfit"), name
    await other.stop()


async def test_what_administrators_see_of_a_provider_has_no_secret(world: World) -> None:
    world.signer.claims = MFA
    await world.login(await world.proved())
    [view] = await world.perimeter.openid.providers.listing()
    assert (view.name, view.client_secret, view.sessions) == ("corp", True, 1)
    assert view.settings["groups"] == {"Engineering": "staff"}
    assert SECRET not in repr(view)
    assert SECRET not in repr(await world.perimeter.openid.providers.registrations())
