"""A small perimeter for decisions: one person, one device, three resources."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from console.address import HostPort
from controller.decision import Answer, SessionFacts, decide
from controller.decision.facts import Device, Grant, Group, Resource, User
from controller.decision.policies import read_policy
from controller.directory.directory import Directory

NOW = datetime(2026, 1, 7, 10, 0, tzinfo=UTC)  # a Wednesday, 11:00 in Paris
TARGET = HostPort("10.0.0.5", 80)
ALICE = User(UUID(int=1), "alice", groups=frozenset({"staff", "everyone"}))
BOB = User(UUID(int=2), "bob", groups=frozenset({"everyone"}))
LAPTOP = Device(UUID(int=11), ALICE.id, "laptop", "linux", approved_at=NOW)
GROUPS = (
    Group(UUID(int=21), "everyone"),
    Group(UUID(int=22), "staff", "everyone", frozenset({"everyone"})),
    Group(UUID(int=23), "admins"),
)
WIKI = Resource(UUID(int=31), "wiki", TARGET, 80, segment="office")
PAYROLL = Resource(UUID(int=32), "payroll", TARGET, 443, protocol="http", segment="office")
LAB = Resource(UUID(int=33), "lab", TARGET, 22)


@dataclass
class World:
    """A directory in the making, and the question everything here asks of it."""

    users: tuple[User, ...] = (ALICE, BOB)
    devices: tuple[Device, ...] = (LAPTOP,)
    resources: tuple[Resource, ...] = (WIKI, PAYROLL, LAB)
    grants: list[Grant] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    problem: str = ""

    def directory(self) -> Directory:
        return Directory.of(
            users=self.users,
            groups=GROUPS,
            devices=self.devices,
            resources=self.resources,
            grants=self.grants,
            policies=[read_policy(text) for text in self.policies],
            problem=self.problem,
        )

    def ask(self, resource: str = "wiki", now: datetime = NOW, **facts: object) -> Answer:
        return decide(self.directory(), session(**facts), resource, now)


def session(  # noqa: PLR0917 - the facts there are
    user_id: UUID = ALICE.id,
    device_id: UUID = LAPTOP.id,
    mfa_at: datetime = NOW,
    source: str = "192.0.2.7",
    started_at: datetime = NOW - timedelta(hours=1),
    methods: frozenset[str] = frozenset({"mfa", "otp", "pwd"}),
) -> SessionFacts:
    return SessionFacts(user_id, device_id, mfa_at=mfa_at, source=source, started_at=started_at, methods=methods)
