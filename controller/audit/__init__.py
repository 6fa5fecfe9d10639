"""What happened, in an order nobody can quietly change.

- ``event``         what every event has in common (pure)
- ``traffic``       the events of tunnels, knocks, handshakes and links (pure)
- ``events``        what can be recorded, one frozen class an event (pure)
- ``chain``         how records are chained by a MAC, and what a broken chain shows (pure)
- ``writer``        events outside a change: queued, batched, counted when there are too many
- ``verification``  reads the chains of a database and says whether they are intact
- ``offline``       verification of a state directory, for `audit verify`
- ``entry``         a record as commands and exports see it (pure)
- ``reading``       the newest records, and those after a place, for `audit tail` and `audit export`
- ``export``        records as OCSF, CEF or JSON lines (pure)

Records themselves are written by ``controller.storage``, in the transaction of the change they belong to.
"""
