"""What is remembered: SQLite beside the controller, or a PostgreSQL several controllers share.

- ``engine``    Storage: reads, changes, and the audit records that are committed with them
- ``models``    the tables
- ``sealing``   secrets in the database, readable only with the master key (pure)
- ``master``    where the master key comes from
- ``database``  how SQLite and PostgreSQL are opened, and when they count as unreachable
- ``schema``    from an empty or older database to this version's tables (Alembic, in process)
- ``chained``   appends audit records in the transaction of a change
"""

from controller.errors import SealError, StorageError, StorageUnavailable
from controller.storage.engine import Change, Storage
from controller.storage.sealing import Sealer

__all__ = ["Change", "SealError", "Sealer", "Storage", "StorageError", "StorageUnavailable"]
