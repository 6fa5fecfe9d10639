"""A crowd of connections from one address: they are bounded, told, and stand in nobody's way."""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

from tests.gateway.tunnel_world import opened
from wire import limits

CROWD = 1_000
"""Five thousand go the same way, and take five times as long."""
PATIENCE = 60
SILENT = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
for number in range(int(sys.argv[3])):
    where = sys.argv[1], int(sys.argv[2])
    held.append(socket.create_connection(where, timeout=60, source_address=("127.0.0.2", 0)))
    if number % 2:
        held[-1].sendall(bytes([22, 3, 1]))  # a handshake that begins and does not go on
print("all are there", flush=True)
sys.stdin.read()
"""


async def test_a_crowd_is_bounded_and_the_others_are_served(gateway: Any, stack: Any, eventually: Any) -> None:
    host, port = gateway.where
    crowd = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SILENT, host, str(port), str(CROWD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    pending, most = gateway.tunnels.tls.pending, 0
    assert crowd.stdout is not None
    coming = asyncio.create_task(crowd.stdout.readline())
    try:
        async with asyncio.timeout(PATIENCE):
            while not coming.done():
                most = max(most, len(pending))
                async with AsyncExitStack() as meanwhile:
                    await opened(gateway, meanwhile)
                await asyncio.wait([coming], timeout=0.2)
        assert coming.result() == b"all are there\n"
        await opened(gateway, stack)
        assert 0 < most <= limits.MAX_PENDING_HANDSHAKES
        assert len(list(gateway.tunnels)) < CROWD // 10
    finally:
        coming.cancel()
        crowd.kill()
        await crowd.wait()
    await eventually(lambda: not len(pending), PATIENCE)
    assert 0 < len(gateway.told("handshake.refused")) < CROWD
    await opened(gateway, stack)
