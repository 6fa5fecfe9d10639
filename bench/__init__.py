"""How fast gloam is, beside what people use today: `python -m bench [--quick]`.

- ``__main__``    what is measured, in which order, in which time
- ``stage``       one perimeter of real processes (`lab`), for everything that goes through a gateway
- ``relay``       CPU of a relayed gigabyte, and ``connections`` of a connection, beside HAProxy and stunnel:
                  ``sides`` and ``peers`` run them, ``load`` is the client of all of them
- ``opening``     from knock to first byte
- ``revocation``  from revoke to the cut of every live tunnel
- ``knocks``      knocks and garbage a core takes; ``knock_server`` and ``knock_sender`` are its two processes
- ``source``      the resource behind gateway and peers
- ``figures``     medians, percentiles, rows: the pure part; ``report`` prints and keeps them
- ``cpu``, ``machine``, ``certificates``, ``budget``  what the others need

`bench/README.md` says how to read the numbers, and what they do not say.
"""
