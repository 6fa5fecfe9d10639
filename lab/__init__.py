"""A whole perimeter on this machine, out of real processes. The demo, the scenario tests and the benchmarks use it.

addresses.py   a block of loopback addresses of its own for each perimeter
processes.py   one real process: started, awaited until ready, stopped; or run to its end
authenticator.py  the person's authenticator app: codes nobody has used yet
hidden.py      the resources behind the gateways: a page, an echo, a source, a sink, one that resets
scan.py        the stranger: what a scan from an address that never knocked sees
here.py        administrators' commands without a process each, for tests
perimeter.py   controller, gateways, resources and clients, put together and torn down
demo.py        `gloam demo`, the story
stand.py       `gloam lab`, the same perimeter left standing
"""
