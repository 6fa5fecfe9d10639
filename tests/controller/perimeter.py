"""A controller's services on a real database, without its door: what knocks and sockets are made of is handed in."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from argon2 import PasswordHasher
from sqlalchemy import select

from certs import Identity, Name, NameKind, Secret, make_csr, new_private_key, private_key_pem
from certs.verify import spki_sha256
from controller.audit.events import Event, decode_event
from controller.authority import Authority, create_authority
from controller.devices import Devices, Enrolment, Invites, KnockKeys
from controller.devices.enrol import Lifetimes
from controller.devices.renewal import Renewals
from controller.devices.seen import Seen
from controller.directory.service import DirectoryService
from controller.gateways.link import Links
from controller.identity import Accounts, Login, Passwords, Proving, totp
from controller.identity.by_oidc import ByOidc
from controller.identity.by_passkey import ByPasskey
from controller.identity.by_totp import context as totp_context
from controller.identity.oidc import OpenId
from controller.identity.passkey_wishes import PasskeyWishes
from controller.identity.passkeys import Passkeys
from controller.sessions import Sessions, SessionTimes
from controller.storage import Storage
from controller.storage.models import (
    AuditRecord,
    Gateway,
    Grant,
    Resource,
    ResourceGateway,
    Totp,
    User,
)
from spa.admission import Admission
from spa.packet import KnockKind
from tests.controller.clock import Clock
from wire.invite import Invite, enrol_proof
from wire.messages import (
    AccountChange,
    AccountReply,
    AccountRequest,
    Address,
    BackupCodeProof,
    ControllerAddress,
    EnrolReply,
    EnrolRequest,
    LoginReply,
    LoginRequest,
    OtpProof,
    PasswordProof,
    Proof,
    SessionView,
)

MAIN = ControllerAddress(
    name="main", tls=Address(host="192.0.2.1", port=443), knock=Address(host="192.0.2.1", port=62201)
)
BINDING = b"b" * 32
SOURCE = "198.51.100.7"
PASSWORD = "correct horse"
PROVIDER_DEADLINE = 0.5  # seconds for one question to an identity provider
FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


Rebuild = Callable[[Storage, "Clock"], Awaitable["Perimeter"]]


@dataclass
class Machine:
    """A device as its owner holds it."""

    id: UUID
    user: str
    reply: EnrolReply
    identity: Identity


@dataclass
class Perimeter:
    """Everything, by name, and what tests do with it."""

    storage: Storage
    authority: Authority
    directory: DirectoryService
    links: Links
    sessions: Sessions
    login_service: Login
    accounts: Accounts
    enrolment: Enrolment
    invites: Invites
    devices: Devices
    renewals: Renewals
    seen: Seen
    keys: KnockKeys
    admission: Admission
    passwords: Passwords
    passkeys: Passkeys
    passkey_wishes: PasskeyWishes
    clock: Clock
    openid: OpenId
    secrets: dict[str, Secret] = field(default_factory=dict)

    # what `application` asks for
    @property
    def name(self) -> Name:
        return Name("example.test", NameKind.CONTROLLER, "main")

    def trust(self) -> str:
        return self.authority.trust_pem

    @property
    def login(self) -> Login:
        return self.login_service

    async def changed(self) -> None:
        await self.directory.reload()
        await self.links.resources_changed()
        await self.sessions.reevaluate()

    # rows

    async def add_user(self, name: str, password: str | None = PASSWORD) -> UUID:
        hashed = None if password is None else await self.passwords.hash(password)
        identifier = uuid4()
        async with self.storage.change() as change:
            change.db.add(User(id=identifier, name=name, password_hash=hashed, created_at=self.clock()))
        await self.directory.reload()
        return identifier

    async def disable(self, name: str) -> None:
        async with self.storage.change() as change:
            user = (await change.db.scalars(select(User).where(User.name == name))).one()
            user.disabled_at = self.clock()
        await self.directory.reload()

    async def add_gateway(self, name: str, *, enrolled: bool = True) -> UUID:
        identifier = uuid4()
        async with self.storage.change() as change:
            change.db.add(
                Gateway(
                    id=identifier,
                    name=name,
                    listen="192.0.2.2:8443",
                    knock="192.0.2.2:62201",
                    advertise=f"{name}.example.test:443",
                    created_at=self.clock(),
                    enrolled_at=self.clock() if enrolled else None,
                )
            )
        await self.directory.reload()
        return identifier

    async def add_resource(self, name: str, *gateways: UUID) -> UUID:
        identifier = uuid4()
        async with self.storage.change() as change:
            change.db.add(
                Resource(
                    id=identifier, name=name, target="10.0.0.5:80", port=80, protocol="tcp", created_at=self.clock()
                )
            )
            await change.db.flush()
            change.db.add_all(ResourceGateway(resource_id=identifier, gateway_id=gateway) for gateway in gateways)
        await self.directory.reload()
        return identifier

    async def add_grant(self, user: UUID, resource: UUID, **conditions: object) -> UUID:
        identifier = uuid4()
        async with self.storage.change() as change:
            change.db.add(
                Grant(id=identifier, user_id=user, resource_id=resource, created_at=self.clock(), **conditions)
            )
        await self.directory.reload()
        return identifier

    # people

    def request(self, invite: Invite, *, csr: str | None = None, proof: bytes | None = None) -> EnrolRequest:
        csr = csr or new_csr()
        return EnrolRequest(
            invite=invite.id,
            csr=csr,
            proof=proof or enrol_proof(invite.secret, BINDING, csr.encode()),
            device_name="laptop",
            platform="Linux",
        )

    async def enrol(self, user: str) -> Machine:
        invite = await self.invites.for_user(user, actor="admin")
        reply, identity = await self._enrol(invite)
        return Machine(UUID(reply.id), user, reply, identity)

    async def join(self, gateway: str) -> Identity:
        """Enrols a gateway that was added."""
        _, identity = await self._enrol(await self.invites.for_gateway(gateway, actor="admin"))
        return identity

    async def _enrol(self, invite: Invite) -> tuple[EnrolReply, Identity]:
        key = new_private_key()
        request = self.request(invite, csr=make_csr(key).decode())
        reply = await self.enrolment.enrol(request, binding=BINDING, source=SOURCE)
        assert isinstance(reply, EnrolReply)
        return reply, Identity.from_pem(private_key_pem(key), reply.certificate.encode())

    async def ask_login(
        self,
        machine: Machine,
        *,
        user: str | None = None,
        password: str | None = PASSWORD,
        otp: str | None = None,
        backup: str | None = None,
        source: str = SOURCE,
    ) -> LoginReply:
        given = proofs(password=password, otp=otp, backup=backup)
        asked = LoginRequest(user=user or machine.user, proofs=given, csr=new_csr())
        return await self.login_service.login(asked, device=machine.id, source=source)

    async def ask_step_up(self, machine: Machine, **given: str) -> LoginReply:
        asked = LoginRequest(user=machine.user, proofs=proofs(**given), step_up=True)
        return await self.login_service.login(asked, device=machine.id, source=SOURCE)

    async def ask_account(
        self, machine: Machine, change: AccountChange, *, user: str | None = None, **given: str
    ) -> AccountReply:
        asked = AccountRequest(user=user or machine.user, proofs=proofs(**given), change=change)
        return await self.accounts.change(asked, device=machine.id, source=SOURCE)

    async def enrolled(self, user: str = "alice") -> tuple[Machine, tuple[str, ...]]:
        """A person who has logged in once, on their machine: it and their backup codes."""
        await self.add_user(user)
        machine = await self.enrol(user)
        await self.ask_login(machine)
        reply = await self.ask_login(machine, otp=await self.code(user))
        assert reply.status == "done", reply
        self.clock.pass_(seconds=61)
        return machine, reply.backup_codes

    async def code(self, user: str) -> str:
        """What the user's authenticator shows now."""
        async with self.storage.read() as db:
            row = (await db.scalars(select(Totp).join(User, Totp.user_id == User.id).where(User.name == user))).one()
        secret = self.storage.sealer.open(row.sealed_secret, totp_context(row.user_id))
        return totp.code_of(secret, totp.step_of(self.clock()))

    async def log_in(self, machine: Machine) -> SessionView:
        """A whole login, in a time step of its own."""
        self.clock.pass_(seconds=31)
        reply = await self.ask_login(machine)
        assert asked_for(reply) <= {"otp", "totp_enrolment", "backup_code", "passkey"}, reply
        reply = await self.ask_login(machine, otp=await self.code(machine.user))
        assert reply.status == "done", reply
        assert reply.session is not None
        return reply.session

    async def events(self, kind: str = "") -> list[Event]:
        await self.storage.audit.flush()
        async with self.storage.read() as db:
            rows = (await db.scalars(select(AuditRecord).order_by(AuditRecord.seq))).all()
        return [decode_event(row.event) for row in rows if row.kind == kind or not kind]

    def knockers(self) -> int:
        return len(self.admission)


def proofs(*, password: str | None = None, otp: str | None = None, backup: str | None = None) -> tuple[Proof, ...]:
    """The proofs of a login, those that are given."""
    by_password = [] if password is None else [PasswordProof(password=password)]
    by_code = [] if otp is None else [OtpProof(code=otp)]
    by_backup = [] if backup is None else [BackupCodeProof(code=backup)]
    return (*by_password, *by_code, *by_backup)


def asked_for(reply: LoginReply | AccountReply) -> set[str]:
    """What `reply` would accept next; nothing unless it says `more`."""
    return {ask.type for ask in reply.asks} if reply.status == "more" else set()


def new_csr() -> str:
    return make_csr(new_private_key()).decode()


async def build(storage: Storage, clock: Clock, **times: object) -> Perimeter:
    """A perimeter's services over a storage that has an authority."""
    async with storage.read() as db:
        authority = await Authority.load(db, storage.sealer)
    note = storage.audit.note
    name = Name("example.test", NameKind.CONTROLLER, "main")
    admission = Admission(
        started_us=0,
        kinds=frozenset({KnockKind.ENROL, KnockKind.CONTROL}),
        ports=frozenset({443}),
        lease_live=lambda *_: False,
    )
    keys = KnockKeys(admission=admission, controller=name, clock=clock)
    directory = DirectoryService(storage)
    await directory.reload()
    links = Links(
        served_by=directory.served_by,
        trust=lambda: authority.trust_pem,
        note=note,
        outage_grace=timedelta(minutes=15),
    )
    sessions = Sessions(
        storage=storage,
        directory=directory,
        authority=authority,
        links=links,
        note=note,
        clock=clock,
        times=SessionTimes(**times),
    )
    links.leases_for = sessions.leases_for
    passwords = Passwords(FAST)
    passkeys = Passkeys(storage, domain="example.test", root_sha256=spki_sha256(authority.trust.root), clock=clock)
    openid = OpenId(
        storage=storage, directory=directory, sessions=sessions, note=note, clock=clock, deadline=PROVIDER_DEADLINE
    )
    further = [ByPasskey(passkeys), ByOidc(openid.federation, openid.rechecks)]
    proving = Proving(storage, passwords, "example.test", owner_of=directory.owner_of, further=further)

    async def changed() -> None:
        await directory.reload()
        await links.resources_changed()
        await sessions.reevaluate()

    return Perimeter(
        storage=storage,
        authority=authority,
        directory=directory,
        links=links,
        sessions=sessions,
        login_service=Login(proving=proving, sessions=sessions, note=note, clock=clock),
        accounts=Accounts(
            storage=storage,
            proving=proving,
            passwords=passwords,
            sessions=sessions,
            domain="example.test",
            note=note,
            clock=clock,
        ),
        passkeys=passkeys,
        passkey_wishes=PasskeyWishes(passkeys, storage=storage, sessions=sessions, note=note, clock=clock),
        enrolment=Enrolment(
            storage=storage,
            authority=authority,
            keys=keys,
            controllers=[MAIN],
            lifetimes=Lifetimes(timedelta(days=30), timedelta(days=30)),
            note=note,
            clock=clock,
            changed=changed,
        ),
        invites=Invites(
            storage=storage,
            keys=keys,
            domain="example.test",
            root_sha256=spki_sha256(authority.trust.root),
            controllers=[MAIN],
            lifetime=timedelta(hours=24),
            clock=clock,
        ),
        renewals=Renewals(
            storage=storage,
            authority=authority,
            keys=keys,
            sessions=sessions,
            lifetimes=Lifetimes(timedelta(days=30), timedelta(days=30)),
            grace=timedelta(days=30),
            connected=links.connected,
            note=note,
            clock=clock,
        ),
        seen=(seen := Seen(storage, clock)),
        devices=Devices(storage=storage, seen=seen, keys=keys, sessions=sessions, clock=clock, changed=changed),
        keys=keys,
        admission=admission,
        passwords=passwords,
        clock=clock,
        openid=openid,
    )


async def over(storage: Storage, clock: Clock) -> AsyncIterator[Perimeter]:
    """A perimeter with an authority, over a storage that has nothing."""
    async with storage.change() as change:
        create_authority(change.db, storage.sealer, "example.test", now=clock())
    made = await build(storage, clock)
    yield made
    made.passwords.close()
    await made.openid.close()
