"""How fast gloam is, beside what people use today: `python -m bench [--quick]`.

- ``parts``       what is measured, in which order; ``run`` does it, ``__main__`` is the command
- ``stage``       one perimeter of real processes (`lab`), for everything that goes through a gateway
- ``relay``       CPU of a relayed gigabyte, and ``connections`` of a new tunnel, beside HAProxy and stunnel:
                  ``sides`` and ``peers`` run them, ``load`` is the client of all of them
- ``many``        the same gigabyte over a hundred tunnels at once; ``crowd`` and ``stream`` are its client
- ``memory``      of an idle tunnel, a thousand of them standing
- ``warm``        a tunnel on a connection that is there already; ``opening`` from knock to first byte
- ``revocation``  from revoke to the cut of every live tunnel
- ``knocks``      knocks and garbage a core takes; ``knock_server`` and ``knock_sender`` are its two processes, and
                  ``fwknop`` runs the peer
- ``workers``     throughput of two workers beside one; ``drain`` (with ``drain.c``) is its client
- ``source``      the resource behind gateway and peers
- ``publish``     the documents made of a kept result, ``chart`` the picture among them
- ``figures``     medians, percentiles, rows: the pure part; ``report`` prints and keeps them
- ``cpu``, ``machine``, ``certificates``, ``budget``  what the others need

`bench/README.md` says how to read the numbers, and what they do not say.
"""
