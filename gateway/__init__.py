"""Enforces: lets in who knocked, opens what a lease permits, cuts what the controller takes away.

- ``leases``       what each live session may do here, pure; ``reports`` and ``backoff`` are pure too
- ``enforcement``  performs what leases say on knock keys and tunnels, and ends leases on time
- ``workers``      the processes that carry tunnels: who gets which, what they may do, what is cut
- ``tunnels``      a worker's work: from an accepted socket to bytes both ways, and to their end
- ``target``       dials what a permit names
- ``link``         the WebSocket to the controller: changes in, acknowledgements and reports out
- ``keys``         the knock keys of leases, in the door's admission
- ``dial``         knocks and connects to a controller
- ``run``          the parts put together; ``join`` how a gateway comes to be; ``status`` what it says of itself
- ``config``       config.toml; ``cli`` the commands; ``limits`` every number with its reason
"""
