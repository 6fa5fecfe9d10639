"""The background agent that owns a session.

- ``process``   how a command finds or starts it; ``socket`` and ``messages`` what is said between them, and how
- ``life``      its process, from lock to end; ``server`` its side of the socket
- ``service``   the agent itself: login, status, routes, logout
- ``keeper``    one session: WebSocket, renewals, its end
"""
