"""Every limit of the wire, with its reason. Times are in seconds, sizes in bytes, unless the name says otherwise.

What the protocol (RFCs, and docs/protocol) fixes stands apart from what we chose and could choose differently.
"""

from typing import Final

# The protocol says ---------------------------------------------------------------------------------------------------

TLS_RECORD_PLAINTEXT: Final = 16_384
"""RFC 8446 §5.1: the most plaintext one record carries, so the most one SSL_read can return."""

ALPN_TUNNEL: Final = b"gloam/1"
"""ALPN of tunnels spoken by our own clients."""

ALPN_HTTP: Final = b"http/1.1"
"""ALPN of control connections, and of tunnels asked for by any HTTPS-proxy client (curl offers this)."""

GROUPS: Final = ("X25519MLKEM768", "X25519")
"""Key exchanges allowed, best first: hybrid post-quantum; plain X25519 for peers whose OpenSSL is older than 3.5."""

MAX_CONNECT_HEADER: Final = 8_192
"""The header section of a CONNECT and of its answer (docs/protocol, Tunnel)."""

MAX_UDP_PAYLOAD: Final = 65_527
"""RFC 9298 §5: the most a UDP header can describe. A longer payload in a capsule ends the tunnel."""

# We chose: handshakes ------------------------------------------------------------------------------------------------

HANDSHAKE_DEADLINE: Final = 5.0
"""From the accepted socket to a verified peer. A full handshake is two round trips: 5 s serves a satellite link."""

MAX_HANDSHAKE_BYTES: Final = 65_536
"""What a peer may send before it is verified. A hybrid ClientHello and a chain of three certificates take 6 KiB."""

HANDSHAKE_READ: Final = 16_384
"""One read during the handshake: small, so that the bound above holds to within one read."""

MAX_SILENT: Final = 2_048
"""Connections one server (or worker of it) holds that have not said a word: about 3 KiB and a descriptor each. As with
the next three, the newest is always let in, and one of whoever holds most goes for it (wire/pending.py). Few would not
do: what is thrown out early comes again, and taking it in is the dearer part."""

MAX_SILENT_PER_SOURCE: Final = 256
"""Of those, from one source (an IPv4 address, an IPv6 /64)."""

MAX_PENDING_HANDSHAKES: Final = 512
"""Connections in the middle of their handshake: at about 60 KiB each, 30 MiB."""

MAX_PENDING_PER_SOURCE: Final = 64
"""Of those, from one source: an office behind one address has that many people open tunnels in one moment, and eight
such sources are needed to fill the whole."""

REFUSALS_TOLD: Final = 20
"""Refused handshakes told one by one in a second; the next one told says how many were not. Whoever holds a window can
begin and abandon handshakes as fast as his line allows, and must not fill the audit log with them."""

CONNECT_DEADLINE: Final = 5.0
"""From the first byte of a CONNECT to its last (docs/protocol, Tunnel); a verified peer that says nothing for so long
is parked."""

# We chose: established connections -----------------------------------------------------------------------------------

READ_SIZE: Final = 262_144
"""The receive buffer, one for each event loop: larger reads mean fewer turns of it; idle connections hold none."""

TURN_READS: Final = 4
"""Full reads of one socket in one turn of the event loop, then the others have theirs: a mebibyte, about a millisecond.

Without it libuv reads up to 32 times from a socket that is never empty."""

WRITE_HIGH: Final = 262_144
"""Bytes waiting for a slow reader before the sender is paused: about one read, so memory stays near it."""

WRITE_LOW: Final = 65_536
"""Bytes waiting when the sender may go on."""

SLICE: Final = 65_536
"""How much is sealed in one go: the memory BIO of a connection keeps the size of the largest until it is quiet."""

MAX_POST_HANDSHAKE: Final = 32
"""Handshake messages (KeyUpdate, tickets) a peer may send after the handshake; each costs us a key schedule.

BoringSSL allows as many in a row; no TLS library sends more than a few in the life of a connection.
"""

POST_HANDSHAKE_EARNED: Final = 16_777_216
"""One more such message for so many bytes received: GnuTLS renews keys after 2^24 records, which may be of one byte."""

LINGER: Final = 1.0
"""After our close_notify has left, how long we read (and drop) what the peer had already sent.

Closing a socket with unread data resets it, and a reset destroys what we sent last: a refusal the peer has to read.
"""

LINGER_BYTES: Final = 4_194_304
"""How much is dropped meanwhile: what a peer's kernel may have had on the way (Linux's largest send buffer)."""

CLOSE_DEADLINE: Final = 10.0
"""How long closing waits for a peer that takes nothing of what it is owed; after that the connection is reset."""

STALL_DEADLINE: Final = 900.0
"""The same for the last bytes of a tunnel: whoever pages through a long answer stops reading for minutes, and what he
has not seen yet is his. What waits is bounded (WRITE_HIGH), and a cut throws it away as ever."""

MAX_DATAGRAM: Final = 65_507
"""The largest UDP payload carried: what fits into an IPv4 packet. IPv6 has room for 20 more, which nobody uses."""

DATAGRAM_QUEUE: Final = 131_072
"""Bytes of capsules waiting for a slow reader before datagrams are dropped: two of the largest.

More would only make what arrives late: whoever uses UDP sends again.
"""

DATAGRAM_BURST: Final = 64
"""Datagrams of one tunnel handled in one go: at about 5 µs each the others wait a third of a millisecond."""

UDP_IDLE: Final = 120.0
"""RFC 9298 §3.1 and RFC 4787 §4.3: a UDP tunnel that carries nothing lives at least two minutes."""

SHUTDOWN_DEADLINE: Final = 3.0
"""How long a stopping server waits for requests under way; they take milliseconds, and WebSockets are told to end."""

HEAD_DEADLINE: Final = 10.0
"""From a verified control connection to its first whole request: clients send it at once."""

KEEP_ALIVE: Final = 30.0
"""How long a control connection is kept for another request: twice what aiohttp's clients keep theirs for."""

PEER_CONNECTIONS: Final = 32
"""Control connections of one device or gateway: it lives on one or two, and others may be on their way in or out."""

CONTROL_CONNECTIONS: Final = 20_000
"""The same of all devices and gateways: each holds one, at some 50 KiB."""

NAMELESS_PER_SOURCE: Final = 8
"""Connections without a certificate (enrolment, recovery) from one address: each is for one request."""

NAMELESS_CONNECTIONS: Final = 256
"""The same from all addresses."""
