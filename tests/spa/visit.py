"""What the tests of the door do at it: scan, knock, connect, pass bytes, and wait for what must come."""

import asyncio
import errno
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from spa.cloak import CloakName, try_out
from spa.door import wall_clock_us
from spa.errors import CloakError
from spa.packet import Knock, KnockKind, encode
from spa.sender import send_knock

SILENCE = 0.25


def needs(cloak: CloakName) -> None:
    try:
        try_out(cloak)
    except CloakError as error:
        pytest.skip(f"needs the {cloak} cloak, run the tests as root: {error}; {error.fix}")


async def scan(place: tuple[str, int], source: str) -> str:
    """What a stranger finds: open, closed, filtered, or reset (connected, and thrown out before a byte)."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as probe:
        probe.settimeout(0)
        probe.bind((source, 0))
        try:
            async with asyncio.timeout(SILENCE):
                await loop.sock_connect(probe, place)
        except ConnectionRefusedError:
            return "closed"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            if (state := kernel_says(probe)) != "connected":  # the loop may have been late, the kernel never is
                return state
        try:
            async with asyncio.timeout(SILENCE):
                return "reset" if await loop.sock_recv(probe, 1) == b"" else "open"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "open" if kernel_says(probe) == "connected" else "reset"


def kernel_says(probe: socket.socket) -> str:
    """What became of a connection, whoever has looked at it: connected, closed, reset or filtered."""
    match probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        case errno.ECONNREFUSED:
            return "closed"
        case errno.ECONNRESET:
            return "reset"
    info = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return {1: "connected", 2: "filtered"}.get(info[0], "reset")  # TCP_ESTABLISHED, TCP_SYN_SENT


def dark(cloak: CloakName) -> str:
    return "closed" if cloak is CloakName.ON_DEMAND else "filtered"


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Lets the loop run until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to it"
        await asyncio.sleep(0.005)


async def passes_bytes(v: Any, sock: socket.socket) -> bool:
    """Both ways, through the accepted connection that is the other end of `sock`."""
    loop = asyncio.get_running_loop()
    word = secrets.token_bytes(8)
    async with asyncio.timeout(30):
        await loop.sock_sendall(sock, word)
        there = await loop.sock_recv(accepted(v, sock)[0], 8)
        await loop.sock_sendall(accepted(v, sock)[0], there)
        return await loop.sock_recv(sock, 8) == word


def accepted(v: Any, sock: socket.socket) -> Any:
    """What the door made of `sock`: attempts that lost the race may have come through as well."""
    here = sock.getsockname()
    return next((each for each in v.came if (str(each[1].address), each[1].port) == here[:2]), None)


def datagram(v: Any) -> bytes:
    knock = Knock(KnockKind.CONTROL, wall_clock_us(), None, None, v.door.bound_listen.port)
    return encode(knock, v.key, nonce=secrets.token_bytes(12), pad=b"")


async def send(v: Any) -> None:
    await send_knock(
        knock_to=v.door.bound_knock,
        port=v.door.bound_listen.port,
        key=v.key,
        kind=KnockKind.CONTROL,
        clock=wall_clock_us,
        local_addr=(v.host(2), 0),
    )
