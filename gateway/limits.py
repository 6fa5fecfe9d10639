"""Every limit the gateway chooses for itself, with its reason. Times are in seconds."""

from typing import Final

MAX_TUNNELS: Final = 10_000
"""Tunnels at a time, those being opened included: two sockets each, within the usual hard limit of descriptors."""

MAX_TUNNELS_PER_SESSION: Final = 256
"""One person's browser opens some dozens of connections; a session that opens hundreds starves the others."""

PARK_DEADLINE: Final = 60.0
"""From a verified handshake to the first byte of its CONNECT: clients keep connections warm and renew them sooner.
After CONNECT_DEADLINE without a byte a connection is parked, with the bounds below."""

MAX_PARKED_PER_SESSION: Final = 8
"""Parked connections of one session: two for each of four commands. More than that says nothing about what is used."""

MAX_PARKED: Final = 1_024
"""Parked connections of all sessions, at about 50 KiB each: 50 MiB."""

TUNNEL_IDLE: Final = 0.0
"""No limit: a terminal nobody types at is no mistake, a vanished peer is noticed by KEEP_ALIVE, and whoever may no
longer have a tunnel loses it with his lease. A limit is for resources that count their connections."""

TUNNEL_LIFETIME: Final = 0.0
"""No limit: a tunnel lives by its lease, which is judged again at every change and every few minutes."""

DIAL_DEADLINE: Final = 5.0
"""From an accepted CONNECT to the connected target: a resource stands near its gateway."""

DRAIN_DEADLINE: Final = 10.0
"""How long SIGTERM waits for live tunnels. Service managers wait 90 s before they kill; a deployment should not."""

LAST_WORDS: Final = 2.0
"""How long a stopping gateway goes on sending its last reports."""

CUT_DEADLINE: Final = 1.0
"""The bound we publish from revoke to last byte. A cut that takes longer is a bug, and is logged as one."""

CUT_CERTAIN: Final = 5.0
"""A worker that has not confirmed a cut by now is killed, which closes its sockets: a right that was taken away ends,
whatever else that ends. Far above CUT_DEADLINE, so that a machine under load costs nobody a tunnel."""

MAX_WORKERS: Final = 64
"""Relay processes. More than cores are of no use."""

WORKER_START: Final = 30.0
"""From the start of a worker to its first word; it takes half a second."""

WORKER_SILENCE: Final = 15.0
"""A worker owes each connection a word within the handshake's deadline (5 s). One that owes it longer is replaced."""

WORKER_STABLE: Final = 5.0
"""A worker that lived this long is replaced at once; after a shorter life the next one waits, ever longer."""

WORKER_BACKLOG: Final = 1_000
"""Messages a worker may be behind with before it gets no more connections."""

WORKER_STOP: Final = 2.0
"""How long a worker may take to end once it is told to."""

MESSAGES_WAITING: Final = 100_000
"""Messages one process has for the other before it gives it up: some hundred bytes each."""

COUNT_DEADLINE: Final = 1.0
"""How long `status` waits for a worker's byte counts; a slower one is shown with the last that is known."""

REPORTS_KEPT: Final = 10_000
"""Reports kept while the link is down: at about 500 bytes each, 5 MB."""

REPORT_LEISURE: Final = 0.02
"""Seconds a report waits for those right behind it: what is written together wakes fewer."""

KNOCK_REPORT_PERIOD: Final = 1.0
"""Refused knocks of one key, source and reason are reported as one count this often: a flood costs one message."""

KNOCK_REASONS_KEPT: Final = 1_000
"""Different refused knocks counted within a period; more are counted together."""

COUNTERS_PERIOD: Final = 5.0
"""How often changed totals are reported."""

BACKOFF_FIRST: Final = 0.2
"""The first wait before another attempt at the controller: a restart of the controller should cost little."""

BACKOFF_MOST: Final = 15.0
"""The longest wait: a thousand gateways then bring a returning controller some seventy attempts a second."""

LINK_STABLE: Final = 5.0
"""A link that lasted this long worked. Shorter ones are failures: two processes with one identity would otherwise
replace each other's link as fast as they can."""

LINK_DEADLINE: Final = 10.0
"""From the first knock at the controller to its first snapshot or `resumed`."""

PINGS_MISSED: Final = 3
"""A link that brought nothing for this many ping periods is dead."""

MAX_CONTROL_MESSAGE: Final = 67_108_864
"""A snapshot: about 60,000 leases with two permits each."""

KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""TCP options: a peer that vanished is noticed after two minutes, and its tunnel and slot are free again."""
