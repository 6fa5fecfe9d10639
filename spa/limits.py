"""Every limit of the knock and its door, with its reason. Times are in seconds unless the name says otherwise.

What the protocol (docs/protocol) fixes stands apart from what we chose and could choose differently.
"""

from typing import Final

# The protocol says ---------------------------------------------------------------------------------------------------

VERSION: Final = 1
LOCATOR_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEAD_BYTES: Final = 47
"""version, kind, flags, reserved, time, session, source, port and pad_len: the plaintext without its padding."""

MAX_PAD: Final = 96
"""Random padding, so that the lengths of knocks tell nothing."""

MIN_DATAGRAM: Final = LOCATOR_BYTES + NONCE_BYTES + HEAD_BYTES + TAG_BYTES
MAX_DATAGRAM: Final = MIN_DATAGRAM + MAX_PAD

EPOCH_SECONDS: Final = 900
"""How long a locator lives: two knocks of one device can be linked for no longer than this."""

MAX_SKEW_US: Final = 120_000_000
"""How far a knock's time may be from ours. Clients learn our clock at every login, so this is for drift and queues."""

REORDER_US: Final = 1_000_000
"""How much older than the newest of its key a knock may be. Processes of one machine that knock at the same moment were
seen to overtake each other by 11 ms on a machine that is busy; networks reorder by less."""

REMEMBERED: Final = 16
"""Times remembered of one key within that. Who knocks faster may be overtaken by as many knocks."""

WINDOW_SECONDS: Final = 10.0
"""How long a knock opens the port for new connections of its source."""

SPENT_SECONDS: Final = 0.1
"""On-demand: how long a window outlives the connection it was opened for: connections made at once share it."""

KNOCK_AT: Final = (0.0, 0.05, 0.2, 0.8, 1.6, 3.2)
"""When a client knocks again while it is not connected: datagrams get lost. The protocol's four, then doubling."""

# We chose: addresses --------------------------------------------------------------------------------------------------

MAX_SHARED_NETWORKS: Final = 16
"""Networks an administrator may declare shared: each knock looks through them."""

MAX_SHARED_ADDRESSES: Final = 32
"""Addresses of one: a knock from it opens a window for each, and one key holds `MAX_WINDOWS_OF_KEY` at a time."""

NAME_FROM: Final = 0.2
"""From the knock at this time on, one more goes out that names the address the controller sees the client at. Earlier
it would be waste: whose UDP and TCP leave from one address is connected by then, unless the way is very long."""

# We chose: the listener ----------------------------------------------------------------------------------------------

DRAIN_BATCH: Final = 512
"""Datagrams read in one wake-up: about two milliseconds of garbage, then the loop serves everybody else."""

RECEIVE_BUFFER: Final = 16 << 20
"""Bytes of socket buffer asked for: a flood of 50,000 datagrams a second fills it in half a second. Whenever this
process gets no processor for as long as the buffer lasts, the knocks of honest people are lost among the garbage."""

ROLL_BATCH: Final = 128
"""Keys whose locators roll in one step, about 1 ms; a step never holds the loop for 10 ms, on a busy machine either."""

ROLL_PAUSE: Final = 0.005
"""Between two steps. 100,000 keys take a few seconds; they are needed 900 s later."""

ROLL_CHECK: Final = 5.0
"""How often a new epoch is looked for."""

REPORTS_PER_SECOND: Final = 20
"""Refused knocks told to `on_drop`. A captured knock can be replayed at line rate and must not flood the audit log."""

MAX_WINDOWS_OF_KEY: Final = 64
"""Grants one key holds at a time. A device has a few addresses within 10 s; whoever knocks in the name of thousands
with a stolen key shall not fill the cloak."""

# We chose: the door --------------------------------------------------------------------------------------------------

BACKLOG: Final = 1024
"""Connections the kernel holds for us between two turns of the loop."""

ACCEPT_BATCH: Final = 16
"""Connections accepted in one wake-up, about two milliseconds as well: a crowd of connections must not keep us from
the knocks for so long that they are lost."""

ACCEPT_PAUSE: Final = 0.5
"""After the system ran out of descriptors or memory: accepting again at once would only spin."""

UPDATE_SHARE: Final = 4
"""After a cloak update that took t, the next one waits 4 t: updates never take more than a fifth of the loop."""

UPDATE_BATCH: Final = 512
"""Sources in one update of the cloak: 4 ms with nftables. The rest waits for the next."""

CLOAK_CHECK: Final = 2.0
"""How often the cloak is looked at, besides whenever the kernel says that somebody changed something: 0.1 ms."""

CLOAK_RETRY: Final = 0.5
"""How soon a cloak that could not be put up or changed is tried again."""

TROUBLE_PAUSE: Final = 10.0
"""Troubles of one kind with the cloak are told at most this often, counted in between: they become audit records."""

MAX_FILTER: Final = 4096
"""BPF_MAXINSNS of Linux: instructions in one classic BPF program."""

# We chose: the sender ------------------------------------------------------------------------------------------------

CONNECT_AT: Final = (0.0, 0.002, 0.006, 0.015, 0.04, 0.1, 0.25, 0.5, 1.0, 1.7, 2.4, 3.3, 4.2)
"""When a client tries to connect. A SYN that comes before its knock was read is dropped, and the kernel would repeat it
only after a second; so the attempts begin dense and the first that connects wins."""

CONNECT_DEADLINE: Final = 5.0
"""For the knock and the connection together."""
