"""How much is measured: `QUICK` ends within three minutes, `FULL` within ten, on two slow cores."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Sizes of one run, and the seconds each part may take at most (`deadlines`, by the part's name)."""

    relay_rounds: int  # of every direction and every side, interleaved
    relay_bytes: int  # a transfer
    many_tunnels: int  # open at once through every side, in each direction
    many_rounds: int
    many_seconds: float  # of traffic, a round, direction and side
    connection_rounds: int
    connections: int  # a round, side and manner; a multiple of eight
    memory_tunnels: int
    warm_openings: int
    openings: int
    flood_openings: int  # during the attack, and as many before it
    revocations: int  # each of its own session, with `tunnels` live tunnels
    tunnels: int
    worker_rounds: int
    worker_seconds: float  # of traffic, a round and gateway
    leases: int
    knock_rounds: int
    knocks: int  # valid ones sent in a round
    garbage_for: float  # seconds of flood in a round
    fwknop_knocks: int
    fwknop_garbage: int
    deadlines: Mapping[str, float]
    total_seconds: float  # what has not begun by then is not measured, what has is cut short
    stage_seconds: float = 60  # until the perimeter stands


QUICK = Budget(
    relay_rounds=7,
    relay_bytes=80_000_000,
    many_tunnels=100,
    many_rounds=3,
    many_seconds=0.4,
    connection_rounds=3,
    connections=48,
    memory_tunnels=1_000,
    warm_openings=60,
    openings=100,
    flood_openings=150,
    revocations=1,
    tunnels=1_000,
    worker_rounds=3,
    worker_seconds=0.6,
    leases=100_000,
    knock_rounds=2,
    knocks=30_000,
    garbage_for=1.0,
    fwknop_knocks=20,
    fwknop_garbage=200,
    deadlines={
        "relay": 25,
        "many": 25,
        "connections": 25,
        "memory": 40,
        "warm": 15,
        "opening": 10,
        "flood": 30,
        "revocation": 30,
        "workers": 40,
        "knocks": 80,
        "fwknopd": 20,
    },
    total_seconds=160,
)

FULL = Budget(
    relay_rounds=25,
    relay_bytes=150_000_000,
    many_tunnels=100,
    many_rounds=9,
    many_seconds=1.0,
    connection_rounds=7,
    connections=96,
    memory_tunnels=1_000,
    warm_openings=200,
    openings=200,
    flood_openings=500,
    revocations=3,
    tunnels=1_000,
    worker_rounds=7,
    worker_seconds=1.5,
    leases=100_000,
    knock_rounds=5,
    knocks=60_000,
    garbage_for=2.0,
    fwknop_knocks=50,
    fwknop_garbage=500,
    deadlines={
        "relay": 150,
        "many": 120,
        "connections": 90,
        "memory": 60,
        "warm": 30,
        "opening": 15,
        "flood": 60,
        "revocation": 60,
        "workers": 120,
        "knocks": 120,
        "fwknopd": 40,
    },
    total_seconds=900,
)
