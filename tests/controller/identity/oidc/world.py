"""A perimeter, a provider that signs anything, and a person with a machine, for logins in process."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from certs import Secret
from controller.identity.oidc.providers import ProviderSettings
from controller.users import UserService
from tests.controller.identity.oidc.signer import CLIENT, SECRET, Signer
from tests.controller.perimeter import SOURCE, Machine, Perimeter, new_csr, proofs
from wire.messages import LoginReply, LoginRequest, OidcBegin, OidcBegun, OidcFinish, OidcFinished, OidcProof, Refusal

PORT: Final = 45_678
MFA: Final = {"amr": ["pwd", "otp", "mfa"]}


@dataclass
class World:
    """`alice` owns `laptop`, and is `u-1` at the provider `corp`."""

    perimeter: Perimeter
    signer: Signer
    laptop: Machine

    @classmethod
    async def make(cls, perimeter: Perimeter, signer: Signer, **settings: Any) -> "World":
        await perimeter.add_user("alice")
        world = cls(perimeter, signer, await perimeter.enrol("alice"))
        signer.clock = perimeter.clock
        await UserService(perimeter.storage, perimeter.directory, perimeter.passwords.hash, perimeter.clock).add_group(
            "staff", actor="admin"
        )
        await world.add_provider(**settings)
        await perimeter.openid.identities.link("alice", "corp", "u-1", actor="admin")
        return world

    async def add_provider(self, **settings: Any) -> None:
        usual = {"groups_claim": "groups", "groups": {"Engineering": "staff"}, "mfa_amr": ("mfa",)}
        whole = ProviderSettings(**{**usual, "recheck": timedelta(minutes=10), **settings})
        secret = Secret(SECRET.encode())
        await self.perimeter.openid.providers.add("corp", self.signer.issuer, CLIENT, secret, whole, actor="admin")

    async def begin(self, machine: Machine | None = None, **asked: Any) -> OidcBegun | Refusal:
        whole = OidcBegin(**{"port": PORT, **asked})
        device = (machine or self.laptop).id
        return await self.perimeter.openid.federation.begin(whole, device=device, source=SOURCE)

    async def finish(self, begun: OidcBegun, machine: Machine | None = None, **asked: Any) -> OidcFinished:
        """With what the redirect brings when the person agrees, or with what is given instead."""
        if not asked:
            code, state = self.signer.agree(begun.url)
            asked = {"code": code, "state": state}
        whole = OidcFinish(login=begun.login, **asked)
        device = (machine or self.laptop).id
        return await self.perimeter.openid.federation.finish(whole, device=device, source=SOURCE)

    async def proved(self, machine: Machine | None = None) -> OidcBegun:
        begun = await self.begin(machine)
        assert isinstance(begun, OidcBegun)
        finished = await self.finish(begun, machine)
        assert finished.status == "proved", finished
        return begun

    async def login(self, begun: OidcBegun, machine: Machine | None = None, *, otp: str | None = None) -> LoginReply:
        given = (OidcProof(login=begun.login), *proofs(otp=otp))
        asked = LoginRequest(proofs=given, csr=new_csr())
        return await self.perimeter.login_service.login(asked, device=(machine or self.laptop).id, source=SOURCE)

    async def reasons(self) -> list[tuple[str, str]]:
        """The codes and details of every refused login, the oldest first."""
        events = await self.perimeter.events("login.refused")
        return [(event.code, event.detail) for event in events]  # type: ignore[attr-defined]

    async def groups(self, name: str = "alice") -> frozenset[str]:
        user = (await self.perimeter.directory.reload()).user_named(name)
        return frozenset() if user is None else user.groups
