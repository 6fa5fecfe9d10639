"""The gateway's door in a process of its own: `python -m bench.knock_server SEED LEASES CLOAK HOST`.

The parts are those `gateway.run` puts together, leases included; only the link to a controller is missing. Says
`ready TCP-PORT UDP-PORT`, then answers each line of its input with its counters as JSON.
"""

import asyncio
import gc
import json
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.knock_keys import Knocker, knocker
from bench.loop import loop_factory
from gateway.keys import TUNNEL, LeaseKeys
from gateway.leases import ControllerTime, Leases, SetKeys
from spa.admission import Admission
from spa.cloak import CloakName
from spa.door import Door, wall_clock_us
from spa.source import Source
from wire.messages import Address, Lease, Permit


def _lease(each: Knocker, until: datetime) -> Lease:
    target = Address(host="127.0.0.1", port=9)
    permit = Permit(resource="wiki", port=80, target=target, protocol="http", policies=("grant/bench",))
    return Lease(
        session=each.session,
        device=each.device,
        user="bench",
        knock_keys=(each.key.to_bytes(),),
        permits=(permit,),
        valid_until=until,
        policy_revision=1,
    )


def _fill(leases: Leases, keys: LeaseKeys, seed: bytes, count: int, now: float) -> None:
    clock = ControllerTime(datetime.now(UTC), now)
    until = clock.time + timedelta(hours=1)
    for number in range(count):
        for effect in leases.put(_lease(knocker(seed, number), until), clock, now):
            if isinstance(effect, SetKeys):
                keys.set(effect.key_id, effect.keys)


def _nobody(connection: socket.socket, _source: Source) -> None:
    connection.close()


def _nothing(_key_id: str) -> None:
    """No key is forgotten while we measure."""


async def _serve(seed: bytes, count: int, cloak: str, host: str) -> None:
    loop = asyncio.get_running_loop()
    leases = Leases()
    admission = Admission(
        started_us=wall_clock_us(),
        kinds=TUNNEL,
        ports=frozenset(),
        lease_live=lambda key_id, session: leases.live(key_id, session, loop.time()),
    )
    keys = LeaseKeys(admission, wall_clock_us, _nothing)
    gc.disable()  # while so much is made at once, looking for garbage is a fifth of the work
    _fill(leases, keys, seed, count, loop.time())
    gc.enable()
    door = Door(listen=(host, 0), knock=(host, 0), cloak=CloakName(cloak), admission=admission, on_connection=_nobody)
    await door.start()
    print("ready", door.bound_listen.port, door.bound_knock.port, flush=True)
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        document: dict[str, Any] = {**door.counters, "windows": len(door.windows), "cloak": str(door.cloak_name)}
        print(json.dumps(document), flush=True)
    await door.close()


def main() -> None:
    """Serve until the input ends, on the event loop a gateway runs on."""
    seed, count, cloak, host = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(bytes.fromhex(seed), int(count), cloak, host))


if __name__ == "__main__":
    main()
