"""Logins at OpenID providers (OpenID Connect Core 1.0, RFC 7636, 8252, 8628, 9207).

tokens.py         ID tokens: who it says somebody is, or why it does not count (pure)
keys.py           a provider's public keys (pure)
discovery.py      what a provider says about itself (pure)
rules.py          what its claims count for here (pure)
conversations.py  logins under way (pure)
told.py           what the person is told, and what the audit log is (pure)
http.py           bounded questions over HTTP
client.py         the protocol's questions, each answer checked
providers.py      providers, as administrators keep them
identities.py     who a provider's people are here
federation.py     a login, from the first question to a proof
recheck.py        sessions are confirmed by the provider again and again
"""

from collections.abc import Callable
from datetime import datetime

from controller.audit.events import Event
from controller.directory.service import DirectoryService
from controller.identity.oidc.client import ProviderClient
from controller.identity.oidc.federation import Federation
from controller.identity.oidc.http import DEADLINE, ProviderHttp
from controller.identity.oidc.identities import Identities
from controller.identity.oidc.providers import Providers
from controller.identity.oidc.recheck import Rechecks
from controller.sessions.service import Sessions
from controller.storage import Storage

__all__ = ["Federation", "OpenId", "Rechecks"]


class OpenId:
    """Every part of it, put together. `deadline`: seconds a provider has to answer one question."""

    def __init__(
        self,
        *,
        storage: Storage,
        directory: DirectoryService,
        sessions: Sessions,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
        device_limit: int = 10,
        deadline: float = DEADLINE,
    ) -> None:
        self._http = ProviderHttp(deadline=deadline)
        client = ProviderClient(self._http, clock)
        self.identities = Identities(
            storage=storage, directory=directory, sessions=sessions, clock=clock, device_limit=device_limit
        )
        self.providers = Providers(storage=storage, directory=directory, sessions=sessions, client=client, clock=clock)
        self.federation = Federation(
            providers=self.providers,
            identities=self.identities,
            client=client,
            owner_of=directory.owner_of,
            note=note,
            clock=clock,
        )
        self.rechecks = Rechecks(
            storage=storage,
            sessions=sessions,
            providers=self.providers,
            identities=self.identities,
            client=client,
            note=note,
            clock=clock,
        )

    async def close(self) -> None:
        """Ends every connection to a provider."""
        await self._http.close()
