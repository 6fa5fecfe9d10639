"""No acknowledged change is lost when the writing process is killed, and what is found afterwards is whole."""

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from certs.secret import Secret
from controller.audit import events
from controller.audit.verification import Intact, verify_database
from controller.storage import Sealer, Storage
from controller.storage.models import User

ROOT = Path(__file__).resolve().parents[3]
MASTER = Secret(b"m" * 32)
WRITER = textwrap.dedent("""
    import asyncio, sys
    from datetime import UTC, datetime
    from certs.secret import Secret
    from controller.audit import events
    from controller.storage import Sealer, Storage
    from controller.storage.models import User

    async def main(url, prefix):
        storage = await Storage.open(url, Sealer(Secret(b"m" * 32)), controller=prefix)
        for number in range(1_000_000):
            name = f"{prefix}-{number}"
            async with storage.change() as change:
                change.db.add(User(name=name, created_at=datetime.now(UTC)))
                change.record(events.ChangeMade(actor="writer", what="user.added", detail=name))
            print(name, flush=True)
            storage.audit.note(events.LoginRefused(user=name, device=None, source="192.0.2.1", code="unknown_user"))

    asyncio.run(main(*sys.argv[1:]))
""")


@contextmanager
def writer(url: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, prefix],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def acknowledged_until_killed(process: subprocess.Popen[str], count: int) -> list[str]:
    """Reads `count` acknowledgements, kills, and reads those that were given before the kill."""
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [line for line in (*lines, *process.stdout.read().split("\n")[:-1]) if line]


async def check(url: str, acknowledged: list[str]) -> None:
    async with await Storage.open(url, Sealer(MASTER)) as storage:
        async with storage.read() as db:
            names = set((await db.scalars(select(User.name))).all())
            recorded = {json.loads(row)["detail"] for row in (await db.scalars(select_events()))}
        assert set(acknowledged) <= names
        assert recorded == names  # a change and its record: both or neither
        result = await verify_database(storage)
        assert isinstance(result, Intact), result
        async with storage.change() as change:
            change.record(events.ControllerStarted(controller="main"))


def select_events():  # noqa: ANN201 - SQLAlchemy's own long type
    from controller.storage.models import AuditRecord

    return select(AuditRecord.event).where(AuditRecord.kind == "change.made")


@pytest.mark.parametrize("count", [1, 7, 40])
async def test_a_killed_writer_loses_nothing_it_acknowledged(database_url: str, count: int) -> None:
    await (await Storage.create(database_url, Sealer(MASTER))).close()
    everything: list[str] = []
    for prefix in ("first", "second"):
        with writer(database_url, prefix) as process:
            everything += acknowledged_until_killed(process, count)
        await check(database_url, everything)
    assert len(everything) >= 2 * count


async def test_two_processes_write_to_one_database_at_once(database_url: str) -> None:
    """Replicas: each has a chain of its own, numbered without gaps or doubles."""
    await (await Storage.create(database_url, Sealer(MASTER))).close()
    with writer(database_url, "left") as left, writer(database_url, "right") as right:
        assert left.stdout is not None
        assert right.stdout is not None
        for _ in range(10):
            left.stdout.readline()
            right.stdout.readline()
        everything = acknowledged_until_killed(left, 1) + acknowledged_until_killed(right, 1)
    await check(database_url, everything)
