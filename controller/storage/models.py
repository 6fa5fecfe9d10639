"""The tables. A row is what was committed; what follows from it is computed, never stored twice.

1. Identifiers are UUIDs that never change; names may be shown, keys are identifiers.
2. Secrets (TOTP, knocks, invites, CA keys) are stored sealed (`sealed_…`, see sealing.py), passwords as argon2id.
3. Times are aware UTC datetimes.
4. What is revoked, removed or disabled keeps its row, with when: the audit log points at it.
"""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored as whole microseconds since 1970: SQLite has no time zones, and integers sort."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Microseconds; a naive datetime is a bug and is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        delta = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The aware datetime."""
        return (
            None
            if value is None
            else datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)
        )


class Base(DeclarativeBase):
    """What every table shares: constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcTime, bytes: LargeBinary, str: String(255)}  # noqa: RUF012


class Setting(Base):
    """A fact about the whole perimeter.

    `domain`, `revision` (of what decisions depend on), `master_check` (recognises the master key), `audit_chains` (how
    many chains there are, under a MAC), `audit_key` (what they are kept with, once the master key was replaced),
    `initialised` (init was finished).
    """

    __tablename__ = "setting"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Authority(Base):
    """A CA certificate and its sealed key: the root or an intermediate. Several of one purpose during a rotation."""

    __tablename__ = "authority"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    purpose: Mapped[str] = mapped_column(String(16), index=True)  # root, services, devices, sessions
    certificate: Mapped[str] = mapped_column(Text)
    sealed_key: Mapped[bytes | None]  # none when the key is kept elsewhere (an offline root)
    created_at: Mapped[datetime]
    issuing_at: Mapped[datetime | None]  # when it began to issue; none for a root, and while a rotation waits
    retired_at: Mapped[datetime | None]


class AuthorityRequest(Base):
    """The key of an intermediate to be, whose certificate the root signs elsewhere. One a purpose."""

    __tablename__ = "authority_request"
    purpose: Mapped[str] = mapped_column(String(16), primary_key=True)
    id: Mapped[UUID] = mapped_column(default=uuid4)  # of the intermediate, once there is one
    sealed_key: Mapped[bytes]
    created_at: Mapped[datetime]


class User(Base):
    """A person; or a `service`, a machine without people, whose devices log in by their certificates alone."""

    __tablename__ = "user_account"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str | None]
    service: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class Totp(Base):
    """A user's authenticator. `last_step` is the last accepted time step: none is accepted twice."""

    __tablename__ = "totp"
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int | None] = mapped_column(BigInteger)


class Passkey(Base):
    """A person's passkey. `sign_count` is the highest seen; `blocked_at`: it went back, so there may be a copy."""

    __tablename__ = "passkey"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    credential: Mapped[bytes] = mapped_column(unique=True)
    public_key: Mapped[bytes]  # COSE
    sign_count: Mapped[int] = mapped_column(BigInteger)
    synced: Mapped[bool]  # its owner's machines may share it
    transports: Mapped[str]  # how browsers reach it, separated by spaces
    aaguid: Mapped[str] = mapped_column(String(36))  # the authenticator's model, where it says so
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    blocked_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]


class Provider(Base):
    """An OpenID provider, as administrators registered it. Identities belong to its issuer, not to this row."""

    __tablename__ = "provider"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    issuer: Mapped[str] = mapped_column(Text, unique=True)
    client_id: Mapped[str] = mapped_column(Text)
    sealed_secret: Mapped[bytes | None]
    settings: Mapped[str] = mapped_column(Text)  # JSON (identity/oidc/providers.py)
    created_at: Mapped[datetime]


class FederatedIdentity(Base):
    """Who a user is at an issuer: issuer and subject, never a name or an address."""

    __tablename__ = "federated_identity"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), index=True)
    created_at: Mapped[datetime]
    second_factor_at: Mapped[datetime | None]  # when the issuer last vouched for one, if ever
    __table_args__ = (UniqueConstraint("issuer", "subject", name="uq_federated_identity_issuer"),)


class FederatedMembership(Base):
    """A user in a group, for as long as an issuer says so."""

    __tablename__ = "federated_membership"
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    group_id: Mapped[UUID] = mapped_column(ForeignKey("user_group.id"), primary_key=True)
    issuer: Mapped[str] = mapped_column(Text, primary_key=True)


class FederatedSession(Base):
    """A session that an issuer's word began, and what it is asked again with. Gone once the session has ended."""

    __tablename__ = "federated_session"
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("session.id", deferrable=True, initially="DEFERRED"), primary_key=True
    )  # written in the change that begins the session, and before it
    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str]
    sealed_refresh: Mapped[bytes | None]
    confirmed_at: Mapped[datetime]  # when the issuer last confirmed it
    asked_at: Mapped[datetime]  # when it was last asked, answer or none


class NextTotp(Base):
    """The authenticator that takes the place of a user's once that device has given a code of it."""

    __tablename__ = "next_totp"
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"))
    sealed_secret: Mapped[bytes]
    expires_at: Mapped[datetime]


class BackupCode(Base):
    """One use: `used_at` is set by a conditional UPDATE of exactly one row, in the transaction that it lets in."""

    __tablename__ = "backup_code"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), index=True)
    digest: Mapped[bytes]  # of the owner and the code (identity/backup_codes.py)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Brake(Base):
    """How often somebody guessed wrong, and when last. identity/attempts.py says who `key` is."""

    __tablename__ = "brake"
    key: Mapped[str] = mapped_column(String(96), primary_key=True)
    count: Mapped[int]
    last: Mapped[datetime] = mapped_column(index=True)


class Group(Base):
    """Users who are granted things together. Groups may be in groups."""

    __tablename__ = "user_group"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_group.id"))
    created_at: Mapped[datetime]


class Membership(Base):
    """A user in a group."""

    __tablename__ = "membership"
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    group_id: Mapped[UUID] = mapped_column(ForeignKey("user_group.id"), primary_key=True)


class Gateway(Base):
    """A gateway, from `gateway add` on; enrolled once its invite was used."""

    __tablename__ = "gateway"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    listen: Mapped[str]  # HOST:PORT where it accepts tunnels
    knock: Mapped[str]  # HOST:PORT where it accepts knocks
    advertise: Mapped[str]  # HOST:PORT clients are told for tunnels; the knock is sent to the same host
    sealed_knock_secret: Mapped[bytes | None]
    key_sha256: Mapped[bytes | None]  # of the public key that counts, as a device's
    issuer_id: Mapped[UUID | None]  # the intermediate that certified it
    certified_until: Mapped[datetime | None]
    sealed_next_knock_secret: Mapped[bytes | None]
    next_key_sha256: Mapped[bytes | None]
    next_issuer_id: Mapped[UUID | None]
    next_certified_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    enrolled_at: Mapped[datetime | None]


class Resource(Base):
    """Something hidden behind gateways."""

    __tablename__ = "resource"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    target: Mapped[str]  # HOST:PORT the gateway dials
    port: Mapped[int]  # the port clients name in CONNECT
    protocol: Mapped[str] = mapped_column(String(8))  # tcp, udp, http
    segment: Mapped[str | None] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime]


class ResourceGateway(Base):
    """A gateway that serves a resource."""

    __tablename__ = "resource_gateway"
    resource_id: Mapped[UUID] = mapped_column(ForeignKey("resource.id"), primary_key=True)
    gateway_id: Mapped[UUID] = mapped_column(ForeignKey("gateway.id"), primary_key=True)


class Invite(Base):
    """One use: `used_at` is set by a conditional UPDATE of exactly one row, in the transaction that enrols."""

    __tablename__ = "invite"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    purpose: Mapped[str] = mapped_column(String(16))  # device, gateway
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    gateway_id: Mapped[UUID | None] = mapped_column(ForeignKey("gateway.id"))
    provider_issuer: Mapped[str | None] = mapped_column(Text)  # whoever logs in there becomes the device's owner
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Device(Base):
    """A machine of a person's, with a key of its own; nobody's until somebody of `provider_issuer` has logged in on it.

    From a renewal until its first use there are two of key, certificate and knock secret: those that count, and the
    next ones, which count too and take the place of the others when they are used.
    """

    __tablename__ = "device"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"), index=True)
    provider_issuer: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(64))
    platform: Mapped[str] = mapped_column(String(128))
    sealed_knock_secret: Mapped[bytes]
    key_sha256: Mapped[bytes]  # of the public key that counts: an older certificate's key is refused
    issuer_id: Mapped[UUID | None]  # the intermediate that certified it
    certified_until: Mapped[datetime]  # the end of its certificate
    sealed_next_knock_secret: Mapped[bytes | None]
    next_key_sha256: Mapped[bytes | None]
    next_issuer_id: Mapped[UUID | None]
    next_certified_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    approved_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Session(Base):
    """A person on a device, from login to end. Live while `ended_at` is empty and `valid_until` not past."""

    __tablename__ = "session"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"))
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"), index=True)
    source: Mapped[str] = mapped_column(String(64))  # the address the login came from
    started_at: Mapped[datetime]
    mfa_at: Mapped[datetime]  # when a second factor was last proved
    methods: Mapped[str]  # what the person proved themselves by, with spaces between: "mfa otp pwd"
    valid_until: Mapped[datetime]  # the end of the newest certificate
    ended_at: Mapped[datetime | None]
    end_code: Mapped[str | None] = mapped_column(String(64))
    end_reason: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (Index("ix_session_live", "ended_at", "valid_until"),)


class Grant(Base):
    """Who may reach what: one of group or user, one of resource or segment. Compiled to a Cedar policy."""

    __tablename__ = "access_grant"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    group_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_group.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    resource_id: Mapped[UUID | None] = mapped_column(ForeignKey("resource.id"))
    segment: Mapped[str | None] = mapped_column(String(64))
    hours: Mapped[str | None]  # "Mon-Fri 08:00-18:00 Europe/Paris"
    mfa_within_seconds: Mapped[int | None]
    expires_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class Policy(Base):
    """A file of Cedar policies an administrator applied."""

    __tablename__ = "policy"
    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    applied_at: Mapped[datetime]


class AuditChain(Base):
    """One chain of audit records a controller process: replicas on one database never contend."""

    __tablename__ = "audit_chain"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)  # 1, 2, 3 …: a chain taken out leaves a gap
    controller: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    length: Mapped[int] = mapped_column(BigInteger)  # records so far: a cut-off tail is missed
    head: Mapped[bytes]  # a MAC over the length and the MAC of the last record


class AuditRecord(Base):
    """An event, chained to the one before it by a MAC (audit/chain.py)."""

    __tablename__ = "audit_record"
    chain_id: Mapped[UUID] = mapped_column(ForeignKey("audit_chain.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(64), index=True)
    event: Mapped[str] = mapped_column(Text)  # JSON
    mac: Mapped[bytes]
