"""Renewal: the next certificate, key and knock secret of a device or gateway, in time or after the last one's end.

Laws:

1. What is new counts beside what is old until it is used (credentials.py); at the first use of the new key the old one
   is refused. The old knock secret opens doors for `LINGER` more: somebody may be knocking with it this moment.
2. Gateways have a device's new knock key before the device has its secret. While one that it may use has no link, it
   keeps what it has, unless its certificate is about to end.
3. A recovery proves the key of the ended certificate on this TLS connection, for this signing request. Without a right
   proof everybody is refused alike; whoever has proved the key is told what is wrong. The audit log has the reason.
4. Keys that may knock are changed inside the turn of the database: a device revoked meanwhile gets none.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from certs.errors import BadCertificate
from certs.names import Name, NameKind
from certs.secret import Secret
from controller.audit.events import CertificateRenewed, Event, KeyReplaced, RenewalRefused
from controller.authority.authority import Authority
from controller.devices import holders
from controller.devices.credentials import NOT_WELCOME, Credential, why_not_recovered
from controller.devices.enrol import Lifetimes, shown
from controller.devices.holders import Holder
from controller.devices.keys import KnockKeys
from controller.sessions.service import Sessions
from controller.storage.engine import Storage
from wire.messages import RecoverRequest, Refusal, RenewReply, RenewRequest
from wire.renewal import key_sha256, proves, recovery_statement

LINGER: Final = timedelta(seconds=10)
"""How long an old knock secret outlives the first use of the new key: a client knocks for 5 s with what it has read."""
PATIENCE: Final = 1 / 6
"""Of a certificate's life: with less left it is renewed whatever gateways know. That is half of what renewal has."""
ASK: Final = "ask your administrator for a new invite"


class _Lost(Exception):  # noqa: N818 - an answer
    """No certificate: the true reason, and what is told."""

    def __init__(self, reason: str, refusal: Refusal = NOT_WELCOME) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refusal = refusal


class Renewals:
    """Answers renewals and recoveries, and notices first uses. `settle` is to be called every second."""

    def __init__(
        self,
        *,
        storage: Storage,
        authority: Authority,
        keys: KnockKeys,
        sessions: Sessions,
        lifetimes: Lifetimes,
        grace: timedelta,
        connected: Callable[[], Collection[str]],
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._connected = connected
        self._storage = storage
        self._authority = authority
        self._keys = keys
        self._sessions = sessions
        self._lifetimes = lifetimes
        self._grace = grace
        self._note = note
        self._clock = clock
        self._lingering: dict[tuple[NameKind, str], datetime] = {}

    async def renew(self, request: RenewRequest, name: Name, *, source: str) -> RenewReply | Refusal:
        """The next certificate for `name`, whose present one was checked. Raises StorageUnavailable."""
        try:
            async with self._storage.read() as db:
                holder = _allowed(await holders.find(db, name.kind, name.id))
            self._reaches_its_gateways(holder)
            return await self._issue(holder, request.csr, request.platform, source)
        except _Lost as lost:
            return self._refused(f"{name.kind}/{name.id}", source, lost)

    async def recover(self, request: RecoverRequest, *, binding: bytes, source: str) -> RenewReply | Refusal:
        """The same for whoever proves the key of a certificate that has ended; `binding` as in wire.renewal."""
        kind = NameKind(request.kind)
        try:
            async with self._storage.read() as db:
                holder = await holders.find(db, kind, request.id)
            holder = await self._proven(holder, request, binding, source)
            return await self._issue(holder, request.csr, request.platform, source, recovered=True)
        except _Lost as lost:
            return self._refused(f"{kind}/{request.id}", source, lost, recovery=True)

    async def used(self, name: Name, key: bytes, source: str) -> None:
        """`name` came with its next key (SHA-256): from now on it is the one that counts. Raises StorageUnavailable."""
        async with self._storage.change() as change:
            holder = await holders.find(change.db, name.kind, name.id)
            if holder is None or holder.credentials.next is None or holder.credentials.which(key) != "next":
                return
            if not await holders.promote(change.db, holder):
                return
            change.record(KeyReplaced(holder=str(holder), source=source))
        self._keys.certified(str(holder), holder.credentials.next.certified_until)
        self._lingering[holder.kind, holder.id] = self._clock() + LINGER

    async def certified_until(self, name: Name) -> datetime | None:
        """The end of the certificate that counts."""
        async with self._storage.read() as db:
            holder = await holders.find(db, name.kind, name.id)
        return None if holder is None else holder.credentials.present.certified_until

    async def settle(self) -> None:
        """Takes the old knock secrets out of use whose time is over. Raises StorageUnavailable."""
        now = self._clock()
        for (kind, identifier), end in list(self._lingering.items()):
            if end <= now:
                await self._publish(kind, identifier)
                self._lingering.pop((kind, identifier), None)

    # Inside

    def _reaches_its_gateways(self, holder: Holder) -> None:
        """Raises _Lost while a gateway could not learn the new knock key, and there is time."""
        if holder.kind is not NameKind.DEVICE:
            return
        leases = (each.outlook.leases for each in self._sessions.live() if str(each.device_id) == holder.id)
        used = {name for held in leases for name, lease in held.items() if lease.permits}
        away = used - set(self._connected())
        left = holder.credentials.present.certified_until - self._clock()
        if away and left > self._lifetimes.device * PATIENCE:
            sentence = f"gateway {min(away)} has no link, and would not know the new knock key"
            raise _Lost("gateway_away", Refusal(code="not_now", sentence=sentence, fix="it is tried again by itself"))

    async def _proven(self, holder: Holder | None, request: RecoverRequest, binding: bytes, source: str) -> Holder:
        """The holder, if the proof is right and nothing speaks against it."""
        if holder is None:
            raise _Lost("unknown")
        key = key_sha256(request.public_key)
        which = holder.credentials.which(key)
        if which is None:
            raise _Lost("key_replaced")
        name = self._authority.name(holder.kind, holder.id)
        if not proves(request.public_key, request.proof, recovery_statement(name, binding, request.csr.encode())):
            raise _Lost("forged")
        _allowed(holder)
        match why_not_recovered(holder.credentials, which, self._clock(), self._grace):
            case None:
                pass
            case "too_late":
                days = f"{self._grace.total_seconds() / 86_400:g} days"
                sentence = f"the certificate of this {holder.kind} ended more than {days} ago"
                raise _Lost("too_late", Refusal(code="too_late", sentence=sentence, fix=ASK))
            case reason:
                sentence = f"the certificate of this {holder.kind} has not ended"
                fix = "check the clock of this machine; it renews its certificate by itself"
                raise _Lost(reason, Refusal(code=reason, sentence=sentence, fix=fix))
        if which == "present":
            return holder
        await self.used(name, key, source)  # it has just proved its next key
        async with self._storage.read() as db:
            return _allowed(await holders.find(db, holder.kind, holder.id))

    async def _issue(
        self, holder: Holder, csr: str, platform: str, source: str, *, recovered: bool = False
    ) -> RenewReply:
        name, secret, now = self._authority.name(holder.kind, holder.id), Secret.fresh(), self._clock()
        lifetime = self._lifetimes.device if holder.kind is NameKind.DEVICE else self._lifetimes.service
        try:
            issued = self._authority.issue(name, csr, now=now, lifetime=lifetime, hosts=holder.hosts)
        except BadCertificate as error:
            fix = "update gloam and try again"
            raise _Lost(str(error.reason), Refusal(code="bad_csr", sentence=str(error), fix=fix)) from error
        sealed = self._storage.sealer.seal(secret, holder.context)
        following = Credential(issued.key_sha256, issued.valid_until, sealed, issued.issuer)
        async with self._storage.change() as change:
            if not await holders.put_next(change.db, holder, following, platform=shown(platform)):
                raise _Lost("changed_meanwhile")
            change.record(
                CertificateRenewed(
                    holder=str(holder), user=holder.user, source=source, until=issued.valid_until, recovered=recovered
                )
            )
        self._lingering.pop((holder.kind, holder.id), None)  # two knock secrets count, not three
        await self._publish(holder.kind, holder.id)
        return RenewReply(
            certificate=issued.chain_pem,
            trust=self._authority.trust_pem,
            knock_secret=secret.reveal(),
            time=self._clock(),
        )

    async def _publish(self, kind: NameKind, identifier: str) -> None:
        """Has doors open to the knock secrets that count now, ours and those of the gateways."""
        async with self._storage.change() as change:
            holder = await holders.find(change.db, kind, identifier)
            if holder is not None and holder.blocked != "device_revoked":
                credentials = holder.credentials
                sealer = self._storage.sealer
                secrets = [sealer.open(each.sealed_knock_secret, holder.context) for each in credentials.newest_first]
                self._keys.put(str(holder), secrets, credentials.present.certified_until)
        if kind is NameKind.DEVICE:
            await self._sessions.rekey(UUID(identifier))

    def _refused(self, holder: str, source: str, lost: _Lost, *, recovery: bool = False) -> Refusal:
        self._note(RenewalRefused(holder=holder, source=source, code=lost.reason, recovery=recovery))
        return lost.refusal


def _allowed(holder: Holder | None) -> Holder:
    if holder is None:
        raise _Lost("unknown")
    if holder.blocked is not None:
        raise _Lost(holder.blocked)
    return holder
