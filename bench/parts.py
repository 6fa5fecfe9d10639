"""What is measured: every part, in the order of the table.

A part on the stage is given the stage; one that stands alone is given the name of the cloak. Each has its own deadline
(`Budget.deadlines`) and fails alone.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.budget import Budget
from bench.connections import connection_rows, measure_connections
from bench.figures import Row
from bench.flood import flood_rows, measure_flood
from bench.fwknop import measure_fwknopd
from bench.knocks import knock_rows, measure_knocks
from bench.many import many_rows, measure_many
from bench.memory import measure_memory, memory_rows
from bench.opening import measure_openings, opening_rows
from bench.peers import FWKNOPD
from bench.relay import measure_relays, relay_rows
from bench.revocation import measure_revocations, revocation_rows
from bench.stage import Stage
from bench.warm import measure_warm, warm_rows
from bench.workers import measure_workers, worker_rows

Samples = AsyncGenerator[dict[str, Any], None]
Rows = Callable[[Sequence[dict[str, Any]]], list[Row]]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is measured. `on_stage` or `alone` measures it, `rows` makes lines of the table of its samples.

    `peer` (its name, and what measures it) adds samples to those of the part, and fails alone, too.
    """

    name: str
    rows: Rows
    on_stage: Callable[[Stage, Budget], Samples] | None = None
    alone: Callable[[str, Budget], Samples] | None = None
    peer: tuple[str, Callable[[Budget], Samples]] | None = None


PARTS = (
    Part("relay", relay_rows, lambda stage, size: measure_relays(stage, size.relay_rounds, size.relay_bytes)),
    Part(
        "many",
        many_rows,
        lambda stage, size: measure_many(stage, size.many_tunnels, size.many_rounds, size.many_seconds),
    ),
    Part(
        "connections",
        connection_rows,
        lambda stage, size: measure_connections(stage, size.connection_rounds, size.connections),
    ),
    Part("memory", memory_rows, lambda stage, size: measure_memory(stage, size.memory_tunnels)),
    Part("warm", warm_rows, lambda stage, size: measure_warm(stage, size.warm_openings)),
    Part("opening", opening_rows, lambda stage, size: measure_openings(stage, size.openings)),
    Part(
        "knocks",
        knock_rows,
        alone=lambda cloak, size: measure_knocks(
            leases=size.leases,
            rounds=size.knock_rounds,
            knocks=size.knocks,
            garbage_for=size.garbage_for,
            cloak=cloak,
        ),
        peer=(FWKNOPD.name, lambda size: measure_fwknopd(size.fwknop_knocks, size.fwknop_garbage)),
    ),
    Part("flood", flood_rows, lambda stage, size: measure_flood(stage, size.flood_openings)),
    # It ends the sessions of everybody but the first visitor.
    Part(
        "revocation",
        revocation_rows,
        lambda stage, size: measure_revocations(stage, stage.visitors[1:], size.tunnels),
    ),
    Part("workers", worker_rows, lambda stage, size: measure_workers(stage, size.worker_rounds, size.worker_seconds)),
)


def rows_of(samples: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """One list for the table, of what was measured."""
    return [row for part in PARTS if samples.get(part.name) for row in part.rows(samples[part.name])]
