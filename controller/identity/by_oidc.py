"""Login by the word of an OpenID provider, which `oidc/federation.py` has heard and checked.

The word is used once, in the transaction that makes the session, if it still counts there: minutes may have passed, in
which an administrator unlinked the identity or removed the provider. From then on `oidc/recheck.py` has it confirmed.
It is one factor (`fed`), or two (`mfa` as well) where the administrator said what the provider says then: as old as the
person's login there, not as young as this one.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from controller.identity import rules
from controller.identity.method import Attempt, Lost, Proved, Refused
from controller.identity.oidc.conversations import Proved as Word
from controller.identity.oidc.federation import Federation
from controller.identity.oidc.recheck import Rechecks
from controller.identity.rules import MFA, Told
from controller.storage.engine import Change
from controller.storage.models import FederatedIdentity, Provider, User
from wire.messages import Ask, OidcProof

OVER: Final = Told("login_over", "this login at the provider is over", "run gloam login --oidc again")


class ByOidc:
    """Judges what was proved at a provider."""

    kind: Final = "oidc"
    second: Final = False

    def __init__(self, federation: Federation, rechecks: Rechecks) -> None:
        self._federation = federation
        self._rechecks = rechecks

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether an issuer has vouched for their second factor: then a first one alone sets no other up."""
        vouched = (FederatedIdentity.user_id == user, FederatedIdentity.second_factor_at.is_not(None))
        return await db.scalar(select(FederatedIdentity.id).where(*vouched).limit(1)) is not None

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:  # noqa: ARG002 - the protocol's
        """Nothing: it begins with `/v1/oidc/begin`, and whether the person has an identity is not said before."""
        return ()

    async def check(self, attempt: Attempt, proof: OidcProof) -> Proved | Refused:
        """What was proved, if it is this account's."""
        word = self._federation.proved(proof.login, attempt.device)
        if word is None:
            return Refused("oidc_over", OVER)
        if word.user_id != attempt.account.user_id:
            return Refused("others_identity", OVER)

        heard = word

        async def use(change: Change) -> None:
            if self._federation.use(proof.login, attempt.device) is None:
                raise Lost("oidc_over", OVER)
            lost = await _why_lost(change.db, heard)
            if lost is not None:
                raise Lost(lost, rules.OVER)
            if heard.second_factor_at is not None:
                same = (FederatedIdentity.issuer == heard.issuer, FederatedIdentity.subject == heard.subject)
                vouched = update(FederatedIdentity).where(*same).values(second_factor_at=heard.second_factor_at)
                await change.db.execute(vouched)

        def begun(change: Change, session: UUID) -> None:
            self._rechecks.begin(change, session, heard)

        methods = {"fed"} if word.second_factor_at is None else {"fed", MFA}
        return Proved(frozenset(methods), use, begun, word.second_factor_at)


async def _why_lost(db: AsyncSession, word: Word) -> str | None:
    """Why a word that counted when it was heard does not any more, for the audit log.

    What was taken away and given again since is something else: an identity that was linked after the word was heard,
    a provider that was registered after this login began. The rows are locked until the session is there, so that
    whoever takes them away afterwards finds it.
    """
    same = (FederatedIdentity.issuer == word.issuer, FederatedIdentity.subject == word.subject)
    mine = (*same, FederatedIdentity.user_id == word.user_id, FederatedIdentity.created_at <= word.at)
    registered = (Provider.issuer == word.issuer, Provider.created_at <= word.begun)
    enabled = (User.id == word.user_id, User.disabled_at.is_(None))
    checks = (
        # No shared lock: it is written to below, and two logins would wait for each other.
        ("unlinked", select(FederatedIdentity.id).where(*mine).with_for_update()),
        ("provider_removed", select(Provider.id).where(*registered).with_for_update(read=True)),
        (str(rules.Reason.USER_DISABLED), select(User.id).where(*enabled).with_for_update(read=True)),
    )
    for reason, query in checks:
        if await db.scalar(query) is None:
            return reason
    return None
