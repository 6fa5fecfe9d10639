"""How much is measured: `QUICK` ends within three minutes, `FULL` within eight, on two slow cores."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Sizes and deadlines of one run."""

    relay_rounds: int  # of every direction and every side, interleaved
    relay_bytes: int  # a transfer
    relay_seconds: float
    connection_rounds: int
    connections: int  # a round and side
    connection_seconds: float
    openings: int
    opening_seconds: float
    revocations: int  # each of its own session, with `tunnels` live tunnels
    tunnels: int
    revocation_seconds: float
    leases: int
    knock_rounds: int
    knocks: int  # valid ones sent in a round
    garbage_for: float  # seconds of flood in a round
    knock_seconds: float
    stage_seconds: float = 60  # until the perimeter stands


QUICK = Budget(
    relay_rounds=9,
    relay_bytes=80_000_000,
    relay_seconds=35,
    connection_rounds=3,
    connections=25,
    connection_seconds=10,
    openings=200,
    opening_seconds=10,
    revocations=2,
    tunnels=100,
    revocation_seconds=10,
    leases=10_000,
    knock_rounds=3,
    knocks=20_000,
    garbage_for=1.0,
    knock_seconds=50,
)

FULL = Budget(
    relay_rounds=25,
    relay_bytes=150_000_000,
    relay_seconds=150,
    connection_rounds=7,
    connections=50,
    connection_seconds=40,
    openings=200,
    opening_seconds=10,
    revocations=3,
    tunnels=100,
    revocation_seconds=30,
    leases=10_000,
    knock_rounds=5,
    knocks=40_000,
    garbage_for=2.0,
    knock_seconds=170,
)
