"""Sends bursts to a door: `python -m bench.knock_sender valid|garbage …` (see `main`).

All datagrams are made first, then it says `made`, waits for a line, sends, and says how many it sent. Valid knocks are
paced a little above what the door is to manage; garbage goes out as fast as this process can.
"""

import argparse
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.knock_keys import knocker
from spa.limits import MAX_DATAGRAM, MAX_PAD, MIN_DATAGRAM, NONCE_BYTES
from spa.packet import Knock, KnockKind, encode

BURST_SECONDS = 0.01
GARBAGE = 20_000  # different datagrams, sent over and over
GARBAGE_BURST = 256

Datagrams = list[tuple[socket.socket, bytes]]


def _valid(arguments: argparse.Namespace, sockets: Sequence[socket.socket]) -> Datagrams:
    """Devices in turn, spread over all, each knock later than the device's last one; a device keeps its address."""
    count = min(arguments.leases, arguments.count)
    numbers = (number * arguments.leases // count for number in range(count))
    devices = [knocker(bytes.fromhex(arguments.seed), number) for number in numbers]
    now_us = time.time_ns() // 1000
    datagrams = []
    for number in range(arguments.count):
        device = devices[number % len(devices)]
        knock = Knock(KnockKind.TUNNEL, now_us + number, device.session, None, arguments.port)
        pad = secrets.token_bytes(secrets.randbelow(MAX_PAD + 1))
        sock = sockets[number % len(devices) % len(sockets)]
        datagrams.append((sock, encode(knock, device.key, nonce=secrets.token_bytes(NONCE_BYTES), pad=pad)))
    return datagrams


def _garbage(sockets: Sequence[socket.socket]) -> Datagrams:
    """Random bytes, as long as knocks are."""
    spread = MAX_DATAGRAM - MIN_DATAGRAM + 1
    return [
        (sockets[number % len(sockets)], secrets.token_bytes(MIN_DATAGRAM + secrets.randbelow(spread)))
        for number in range(GARBAGE)
    ]


def _send_paced(datagrams: Datagrams, rate: int) -> int:
    burst = max(int(rate * BURST_SECONDS), 1)
    due = time.monotonic()
    for start in range(0, len(datagrams), burst):
        for sock, datagram in datagrams[start : start + burst]:
            sock.send(datagram)
        due += BURST_SECONDS
        time.sleep(max(due - time.monotonic(), 0))
    return len(datagrams)


def _flood(datagrams: Datagrams, seconds: float) -> int:
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        start = sent % len(datagrams)
        for sock, datagram in datagrams[start : start + GARBAGE_BURST]:
            sock.send(datagram)
        sent += len(datagrams[start : start + GARBAGE_BURST])
    return sent


def _sockets(stack: ExitStack, count: int, to: tuple[str, int]) -> list[socket.socket]:
    made = []
    for number in range(count):
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((f"127.252.{number // 250}.{number % 250 + 1}", 0))
        sock.connect(to)
        made.append(sock)
    return made


def main() -> None:
    """Make, wait, send, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("valid", "garbage"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--knock-port", type=int, required=True)
    parser.add_argument("--port", type=int, required=True, help="the port the knocks ask for")
    parser.add_argument("--seed", required=True)
    parser.add_argument("--leases", type=int, required=True)
    parser.add_argument("--sources", type=int, required=True, help="addresses to send from")
    parser.add_argument("--count", type=int, default=0, help="of valid knocks")
    parser.add_argument("--rate", type=int, default=0, help="valid knocks a second")
    parser.add_argument("--seconds", type=float, default=0, help="of garbage")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        sockets = _sockets(stack, arguments.sources, (arguments.host, arguments.knock_port))
        datagrams = _valid(arguments, sockets) if arguments.kind == "valid" else _garbage(sockets)
        print("made", flush=True)
        if not sys.stdin.readline():
            return  # nobody waits for it any more
        if arguments.kind == "valid":
            sent = _send_paced(datagrams, arguments.rate)
        else:
            sent = _flood(datagrams, arguments.seconds)
        print(sent, flush=True)


if __name__ == "__main__":
    main()
