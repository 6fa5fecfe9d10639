"""Workers: the processes that carry tunnels, and how the main process keeps them.

The main process decides everything (knocks, leases, limits, cuts, and who gets which connection); a worker does the
TLS, asks before each tunnel, dials and copies bytes. Decisions are in one place, so nothing of them is replicated.

- ``dispatcher``  the main process's side: connections to the least loaded worker, answers, cuts, replacements
- ``ledger``      who has which tunnels in which worker, pure: limits and cuts are made from it
- ``worker``      one worker as the main process sees it: started, spoken to, gone
- ``process``     the worker itself: ``python -m gateway.workers.process``
- ``channel``     the socket pair between them; ``messages`` what is said on it
"""
