"""A controller put together: every part, made once and handed to those who need it, taken apart in the opposite order.

Nothing is reachable before everything is in place: the door opens last of all that faces the network, and closes first.
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog

from certs.names import Name, NameKind, Purpose
from console.address import HostPort
from controller.admin.client import SOCKET
from controller.admin.commands import commands
from controller.admin.server import AdminServer
from controller.api.client import application
from controller.audit.events import CloakTrouble, ControllerStarted, ControllerStopped, HandshakeRefused, KnockRefused
from controller.authority import Authority, Rotation
from controller.authority.rotation import ACKNOWLEDGE_SECONDS, Holder
from controller.authority.rules import Times
from controller.config import ControllerSettings
from controller.devices.enrol import Enrolment, Lifetimes
from controller.devices.invites import Invites
from controller.devices.keys import KnockKeys
from controller.devices.renewal import Renewals
from controller.devices.seen import Seen
from controller.devices.service import Devices
from controller.directory import DirectoryService
from controller.errors import StorageError
from controller.gateways.link import Links
from controller.gateways.registry import GatewayRegistry
from controller.identity.account import Accounts
from controller.identity.by_oidc import ByOidc
from controller.identity.by_passkey import ByPasskey
from controller.identity.login import Login
from controller.identity.method import Method
from controller.identity.oidc import OpenId
from controller.identity.passkey_admin import PasskeyAdmin
from controller.identity.passkey_wishes import PasskeyWishes
from controller.identity.passkeys import Passkeys
from controller.identity.passwords import Passwords
from controller.identity.proving import Proving
from controller.policies.grants import GrantService
from controller.policies.service import PolicyService
from controller.resources.service import ResourceService
from controller.sessions.service import Sessions, SessionTimes
from controller.storage import Storage
from controller.users.service import UserService
from spa.admission import Admission, Drop
from spa.cloak import CloakName
from spa.cover import Trouble
from spa.door import Door, wall_clock_us
from spa.networks import parse_networks
from spa.packet import IPAddress, KnockKind
from spa.source import Source
from wire.errors import TlsRefusal
from wire.http import HttpsServer
from wire.messages import Address, ControllerAddress, TrustUpdate
from wire.tls import ServerTls

log = structlog.get_logger("controller")

HTTP_ALPN: Final = ("http/1.1",)
LOOK_SECONDS: Final = 1
"""How often we look whether an invite, a certificate or an old knock secret has come to its end: microseconds."""
DISTRUSTED: Final = "the intermediate that signed this certificate is trusted no more"
SWEEP_SECONDS: Final = 10
"""How often the database is asked what other controllers changed."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Controller:
    """Every part of a running controller, by its name."""

    def __init__(self, settings: ControllerSettings, storage: Storage, authority: Authority) -> None:
        self.settings = settings
        self.storage = storage
        self.authority = authority
        self.name = Name(settings.domain, NameKind.CONTROLLER, settings.name)
        self.started = utc_now()
        self._where = f"controller/{settings.name}"  # in the audit log
        note = storage.audit.note
        self.admission = Admission(
            started_us=wall_clock_us(),
            kinds=frozenset({KnockKind.ENROL, KnockKind.CONTROL}),
            ports=frozenset({settings.told_listen.port, settings.listen.port}),  # others may know us by another port
            lease_live=lambda _key_id, _session: False,  # tunnels end at gateways
            shared=parse_networks(settings.shared_networks),
        )
        self.keys = KnockKeys(
            admission=self.admission,
            controller=self.name,
            clock=utc_now,
            forgotten=lambda key_id: self.door.close_windows(key_id),  # noqa: PLW0108 - the door is made later
        )
        self.directory = DirectoryService(storage)
        self.links = Links(
            served_by=self.directory.served_by,
            trust=self.trust,
            note=note,
            outage_grace=settings.outage_grace,
            ping=settings.ping_interval,
        )
        self.sessions = Sessions(
            storage=storage,
            directory=self.directory,
            authority=authority,
            links=self.links,
            note=note,
            clock=utc_now,
            times=SessionTimes(
                lifetime=settings.session_lifetime,
                acknowledge=settings.lease_ack_timeout.total_seconds(),
                outage=settings.outage_grace,
            ),
        )
        self.passwords = Passwords()
        told = (
            ControllerAddress(
                name=settings.name, tls=_address(settings.told_listen), knock=_address(settings.told_knock)
            ),
        )
        lifetimes = Lifetimes(settings.device_lifetime, settings.service_lifetime)
        self.enrolment = Enrolment(
            storage=storage,
            authority=authority,
            keys=self.keys,
            controllers=told,
            lifetimes=lifetimes,
            note=note,
            clock=utc_now,
            changed=self.directory.reload,
            approve=settings.device_approval == "invite",
            limit=settings.device_limit,
        )
        self.renewals = Renewals(
            storage=storage,
            authority=authority,
            keys=self.keys,
            sessions=self.sessions,
            lifetimes=lifetimes,
            grace=settings.recovery_grace,
            connected=self.links.connected,
            note=note,
            clock=utc_now,
        )
        self.invites = Invites(
            storage=storage,
            keys=self.keys,
            domain=settings.domain,
            root_sha256=authority.root_sha256,
            controllers=told,
            lifetime=settings.invite_lifetime,
            clock=utc_now,
        )
        self.seen = Seen(storage, utc_now)
        self.devices = Devices(
            storage=storage,
            seen=self.seen,
            keys=self.keys,
            sessions=self.sessions,
            clock=utc_now,
            changed=self.directory.reload,
        )
        self.users = UserService(
            storage,
            self.directory,
            lambda password, name: self.passwords.hash_new(password, name, settings.domain),
            utc_now,
        )
        self.resources = ResourceService(storage, self.directory, utc_now)
        self.registry = GatewayRegistry(storage, self.directory, utc_now)
        self.grants = GrantService(self.directory, utc_now)
        self.policies = PolicyService(storage, self.directory, utc_now)
        self.openid = OpenId(
            storage=storage, directory=self.directory, sessions=self.sessions, note=note, clock=utc_now,
            device_limit=settings.device_limit,
        )  # fmt: skip
        self.passkeys = Passkeys(storage, domain=settings.domain, root_sha256=authority.root_sha256, clock=utc_now)
        self.passkey_admin = PasskeyAdmin(storage, utc_now)
        self.passkey_wishes = PasskeyWishes(
            self.passkeys, storage=storage, sessions=self.sessions, note=note, clock=utc_now
        )
        further: list[Method[Any]] = [ByPasskey(self.passkeys), ByOidc(self.openid.federation, self.openid.rechecks)]
        proving = Proving(storage, self.passwords, settings.domain, owner_of=self.directory.owner_of, further=further)
        self.login = Login(proving=proving, sessions=self.sessions, note=note, clock=utc_now)
        self.rotation = Rotation(
            storage=storage,
            authority=authority,
            times=Times(
                settings.session_lifetime, settings.device_lifetime, settings.service_lifetime, settings.outage_grace
            ),
            clock=utc_now,
            sessions=self._sessions_held,
            trusting=self.links.trusting,
            announce=self._announce_trust,
            cast_out=self._cast_out,
        )
        self.accounts = Accounts(
            storage=storage,
            proving=proving,
            passwords=self.passwords,
            sessions=self.sessions,
            domain=settings.domain,
            note=note,
            clock=utc_now,
        )
        self.door = Door(
            listen=(settings.listen.host, settings.listen.port),
            knock=(settings.knock.host, settings.knock.port),
            cloak=CloakName(settings.cloak),
            admission=self.admission,
            on_connection=self._accept,
            on_drop=self._knock_refused,
            on_trouble=self._cloak_troubled,
        )
        app = application(self)
        self._certify()
        self.server = HttpsServer(app, self._mutual, on_refused=self._handshake_refused)

    @classmethod
    async def assemble(cls, settings: ControllerSettings, storage: Storage) -> "Controller":
        """A controller over an open storage, knowing everything that is in it."""
        async with storage.read() as db:
            authority = await Authority.load(db, storage.sealer)
        controller = cls(settings, storage, authority)
        await controller.directory.reload()
        await controller.keys.fill(storage)
        controller.links.expect(
            each.name for each in await controller.registry.listing() if each.enrolled_at is not None
        )
        await controller.sessions.load()
        controller.directory.subscribe(controller._follow)
        controller.links.leases_for = controller.sessions.leases_for
        gc.collect()
        gc.freeze()  # what was loaded stays: a collection over 100,000 knock keys would hold the loop for 0.1 s
        return controller

    @contextlib.asynccontextmanager
    async def serving(self, state: Path) -> AsyncIterator[None]:
        """Reachable inside the block."""
        admin = AdminServer(state / SOCKET, commands(self))
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as background:
            stack.push_async_callback(self.openid.close)
            await self.server.start()
            stack.push_async_callback(self.server.close)
            stack.push_async_callback(self.links.close)
            await self.door.start()
            stack.push_async_callback(self.door.close)
            await admin.start()
            stack.push_async_callback(admin.close)
            tasks = [
                background.create_task(self.sessions.run(self.settings.reevaluate_interval), name="sessions"),
                background.create_task(self._look(), name="look"),
                background.create_task(self._sweep(), name="sweep"),
                background.create_task(self.openid.rechecks.run(), name="rechecks"),
            ]
            async with self.storage.change() as change:
                change.record(ControllerStarted(controller=self.settings.name, version=version("gloam")))
            log.info(
                "ready",
                listen=str(self.settings.listen),
                knock=str(self.settings.knock),
                cloak=self.door.cloak_name,
                why=self.door.cloak_reason,
            )
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await stack.aclose()
                with contextlib.suppress(StorageError):
                    await self.seen.write(now=True)
                self.passwords.close()
                self.storage.audit.note(ControllerStopped(controller=self.settings.name))

    def trust(self) -> str:
        """The bundle that gateways and devices shall hold, in PEM."""
        return self.authority.trust_pem

    # --- the authority ------------------------------------------------------------------------------------------

    def _sessions_held(self) -> list[tuple[Holder, datetime]]:
        return [(Holder("session", str(each.id), each.user), each.valid_until) for each in self.sessions.live()]

    async def _announce_trust(self) -> None:
        """Trusts, and certifies itself by, what the authority is now; gateways and devices are told."""
        if self.authority.issuing(Purpose.SERVICES) == self.identity.chain[1]:
            self._begin_policies()
        else:
            self._certify()
        self.sessions.tell(TrustUpdate(trust=self.trust()))
        await self.links.trust_changed(ACKNOWLEDGE_SECONDS)

    async def _cast_out(self, holders: Sequence[Holder]) -> None:
        """Ends what these have open."""
        for holder in holders:
            match holder.kind:
                case "session":
                    await self.sessions.end(UUID(holder.id), "distrusted", DISTRUSTED, "")
                case "device":
                    device = UUID(holder.id)
                    await self.sessions.end_where(device=device, code="distrusted", sentence=DISTRUSTED)
                case _:
                    await self.links.hang_up(holder.id)

    async def _follow(self, _: object) -> None:
        """What decisions depend on has changed: make it so everywhere before whoever changed it is answered."""
        await self.links.resources_changed()
        await self.sessions.reevaluate()

    # --- the edge -----------------------------------------------------------------------------------------------

    def _policy(self, *, require_client: bool) -> ServerTls:
        accepted = frozenset({Purpose.DEVICES, Purpose.SERVICES})
        return ServerTls(self.identity, self.authority.trust, accepted, require_client=require_client, alpn=HTTP_ALPN)

    def _certify(self) -> None:
        self.identity = self.authority.new_identity(
            self.name,
            now=utc_now(),
            lifetime=self.settings.service_lifetime,
            hosts=sorted({self.settings.told_listen.host, self.settings.listen.host}),
        )
        self._begin_policies()

    def _begin_policies(self) -> None:
        """From the next handshake on."""
        self._mutual, self._enrolling = self._policy(require_client=True), self._policy(require_client=False)

    def _accept(self, sock: socket.socket, source: Source) -> None:
        """Only a source that knocked to enrol or recover may come without a certificate, and then only for that."""
        self.server.accept(sock, self._enrolling if KnockKind.ENROL in source.kinds else self._mutual)

    def _handshake_refused(self, refusal: TlsRefusal) -> None:
        self.storage.audit.note(
            HandshakeRefused(
                where=self._where,
                source=str(HostPort(*refusal.source)) if refusal.source[0] else "",
                code=refusal.reason,
                detail=refusal.sentence,
                presented=refusal.presented,
            )
        )

    def _knock_refused(self, drop: Drop, source: IPAddress) -> None:
        if drop.key_id is not None:
            code = "device_revoked" if self.keys.is_revoked(drop.key_id) else drop.reason
            self.storage.audit.note(KnockRefused(where=self._where, key_id=drop.key_id, source=str(source), code=code))

    def _cloak_troubled(self, trouble: Trouble) -> None:
        log.warning("trouble with the cloak", code=str(trouble.code), detail=trouble.detail, count=trouble.count)
        self.storage.audit.note(
            CloakTrouble(where=self._where, code=trouble.code, detail=trouble.detail, count=trouble.count)
        )

    async def _look(self) -> None:
        """Does what is due."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.keys.expire()
            self._renew_when_due()
            try:
                await self.renewals.settle()
                await self.seen.write()
            except StorageError as error:
                log.warning("what is due waits for the database", reason=error.what)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.rotation.advance()
                await self.directory.refresh()
            except StorageError as error:
                log.warning("the sweep waits for the database", reason=error.what)

    def _renew_when_due(self) -> None:
        """Our certificate comes from our own authority: a new one at two thirds of its life, without anybody's help."""
        if utc_now() >= self.identity.renewal_due:
            self._certify()
            log.info("certificate renewed", until=str(self.identity.leaf.not_valid_after_utc))


def _address(place: HostPort) -> Address:
    return Address(host=place.host, port=place.port)
