"""Providers as administrators keep them: added, shown, removed.

Laws:

1. A provider is added only after it has described itself under exactly this issuer: a typing error shows at once.
2. The client's secret is stored sealed and shown to nobody.
3. Removing a provider ends the sessions it began and takes the groups it gave. Identities stay: they are the issuer's,
   and count again if it is added again.
4. There are at most `MOST`, one an issuer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select

from certs.secret import Secret
from console.settings import Duration
from controller.directory.lookup import label, not_found
from controller.directory.service import DirectoryService
from controller.errors import Refused
from controller.identity.oidc import discovery
from controller.identity.oidc.client import ProviderClient
from controller.identity.oidc.http import Misbehaved, Unreachable
from controller.identity.oidc.rules import ALGORITHMS, Registration
from controller.sessions.service import Sessions
from controller.storage import Storage
from controller.storage.models import FederatedMembership, FederatedSession, Group
from controller.storage.models import Provider as Row

MOST: Final = 32
REMOVED: Final = "the provider this session was begun with was removed"
_SHORTEST: Final = timedelta(seconds=1)
_VALUE: Final = re.compile(r"\A[!-~]{1,255}\Z")
Values = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Field(max_length=64)]


class ProviderSettings(BaseModel):
    """What may be set about a provider besides issuer and client."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    scopes: Values = ("openid", "offline_access")
    algorithms: Values = ALGORITHMS
    groups_claim: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    groups: Annotated[dict[str, str], Field(max_length=1_000)] = Field(default_factory=dict)
    mfa_amr: Values = ()
    mfa_acr: Values = ()
    creates_users: bool = False
    name_claim: Annotated[str, Field(min_length=1, max_length=255)] = "preferred_username"
    max_age: Duration = timedelta(hours=12)
    recheck: Duration = timedelta(minutes=10)
    grace: Duration = timedelta(hours=1)

    def checked(self) -> Self:
        """These, if they can be used together. Raises Refused."""
        unknown = sorted(set(self.algorithms) - set(ALGORITHMS))
        if unknown or not self.algorithms:
            raise Refused(
                "bad_algorithm", f"not algorithms to trust: {', '.join(unknown)[:200]}", f"use {', '.join(ALGORITHMS)}"
            )
        if "openid" not in self.scopes or not all(_VALUE.match(each) for each in (*self.scopes, *self.mfa_acr)):
            raise Refused("bad_scope", "the scopes must be words, with openid among them", "name --scope openid")
        if self.groups and self.groups_claim is None:
            raise Refused("bad_groups", "groups are mapped, but no claim has them", "name --groups-claim CLAIM")
        if min(self.max_age, self.recheck) < _SHORTEST or self.grace < timedelta(0):
            raise Refused("bad_duration", "a time of a provider is too short", "write 1s or more, as in 10m or 12h")
        return self


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider as administrators see it."""

    name: str
    issuer: str
    client_id: str
    client_secret: bool
    settings: Mapping[str, Any]
    sessions: int
    created_at: datetime


class Providers:
    """What administrators do with providers, and where everybody else finds them."""

    def __init__(
        self,
        *,
        storage: Storage,
        directory: DirectoryService,
        sessions: Sessions,
        client: ProviderClient,
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._sessions = sessions
        self._client = client
        self._clock = clock

    async def add(
        self, name: str, issuer: str, client_id: str, secret: Secret | None, settings: ProviderSettings, *, actor: str
    ) -> None:
        """A new provider. Raises Refused: bad_name, bad_issuer, exists, provider_unfit and others."""
        label(name, "provider")
        settings.checked()
        if not _VALUE.match(client_id) or (secret is not None and not 0 < len(secret) <= 1_024):  # noqa: PLR2004
            raise Refused("bad_client", "the client's id or secret has a form that none has", "copy it again")
        await self._describe(issuer)
        async with self._directory.change(actor) as change:
            if await change.db.scalar(select(Row.name).where((Row.name == name) | (Row.issuer == issuer))) is not None:
                raise Refused("exists", "there is a provider of this name or issuer", "remove it first")
            if (await change.db.scalar(select(func.count()).select_from(Row)) or 0) >= MOST:
                raise Refused("too_many", f"there are {MOST} providers already", "remove one")
            known = set(await change.db.scalars(select(Group.name)))
            for group in sorted(set(settings.groups.values()) - known):
                raise not_found("group", group, known)
            identifier = uuid4()
            sealed = None if secret is None else self._storage.sealer.seal(secret, secret_context(identifier))
            change.db.add(
                Row(
                    id=identifier,
                    name=name,
                    issuer=issuer,
                    client_id=client_id,
                    sealed_secret=sealed,
                    settings=settings.model_dump_json(),
                    created_at=self._clock(),
                )
            )
            change.record("provider.added", f"{name}: {issuer}, client {client_id}; {settings.model_dump_json()}")

    async def remove(self, name: str, *, actor: str) -> int:
        """Removes a provider (law 3); answers how many sessions that ended. Raises Refused: not_found."""
        async with self._directory.change(actor) as change:
            row = await change.db.scalar(select(Row).where(Row.name == name))
            if row is None:
                raise not_found("provider", name, await change.db.scalars(select(Row.name)))
            issuer = row.issuer
            # Taken before its sessions are looked for: a login that was under way has made its session, or never will.
            await change.db.delete(row)
            await change.db.flush()
            begun = select(FederatedSession.session_id).where(FederatedSession.issuer == issuer)
            sessions = list(await change.db.scalars(begun))
            await change.db.execute(delete(FederatedMembership).where(FederatedMembership.issuer == issuer))
            change.record("provider.removed", f"{name}: {issuer}")
            live = {session.id for session in self._sessions.live()}.intersection(sessions)
        self._client.forget(issuer)
        for session in live:
            await self._sessions.end(session, "provider_removed", REMOVED, actor)
        return len(live)

    async def listing(self) -> Sequence[ProviderView]:
        """Every provider, by name."""
        async with self._storage.read() as db:
            rows = list(await db.scalars(select(Row).order_by(Row.name)))
            begun = {each.session_id: each.issuer for each in await db.scalars(select(FederatedSession))}
        live = [begun.get(session.id) for session in self._sessions.live()]
        return [
            ProviderView(
                name=row.name,
                issuer=row.issuer,
                client_id=row.client_id,
                client_secret=row.sealed_secret is not None,
                settings=ProviderSettings.model_validate_json(row.settings).model_dump(mode="json"),
                sessions=live.count(row.issuer),
                created_at=row.created_at,
            )
            for row in rows
        ]

    async def registrations(self) -> Mapping[str, Registration]:
        """Every provider, by name, as logins need it."""
        async with self._storage.read() as db:
            rows = list(await db.scalars(select(Row).order_by(Row.name)))
        return {row.name: self._registration(row) for row in rows}

    def _registration(self, row: Row) -> Registration:
        settings = ProviderSettings.model_validate_json(row.settings)
        sealed = row.sealed_secret
        return Registration(
            name=row.name,
            issuer=row.issuer,
            client_id=row.client_id,
            secret=None if sealed is None else self._storage.sealer.open(sealed, secret_context(row.id)),
            algorithms=frozenset(settings.algorithms),
            **{
                name: getattr(settings, name)
                for name in (
                    "scopes", "groups_claim", "groups", "mfa_amr", "mfa_acr", "creates_users", "name_claim", "max_age",
                    "recheck", "grace",
                )
            },
        )  # fmt: skip

    async def _describe(self, issuer: str) -> None:
        try:
            discovery.check_issuer(issuer)
        except discovery.BadMetadata as error:
            fix = "write it as the provider does, as in https://login.example.com"
            raise Refused("bad_issuer", str(error), fix) from None
        self._client.forget(issuer)
        try:
            await self._client.metadata(issuer)
        except Unreachable as error:
            fix = f"check that this machine reaches {discovery.document_url(issuer)}"
            raise Refused("provider_unreachable", f"the provider does not answer: {error}", fix) from None
        except Misbehaved as error:
            fix = f"compare the issuer with {discovery.document_url(issuer)}, to the last character"
            raise Refused("provider_unfit", f"this provider cannot be used: {error}", fix) from None


def secret_context(provider: UUID) -> str:
    """What a client's secret is sealed for."""
    return f"provider/{provider}/secret"
