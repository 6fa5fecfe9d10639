"""Opening the database of a state directory, whichever of its master keys counts.

A rotation of the master key (safekeeping/resealing.py) that was stopped leaves two: the database says which opens it,
and if it is the new one, the rotation is brought to its end here.
"""

from collections.abc import Mapping
from pathlib import Path

from controller.config import ControllerSettings, database_url
from controller.errors import WrongMasterKey
from controller.storage.engine import Storage
from controller.storage.master import finish_pending, load_master_key, pending_master_key
from controller.storage.sealing import Sealer


async def open_storage(state: Path, settings: ControllerSettings, environ: Mapping[str, str]) -> Storage:
    """The storage of a controller. Raises StorageError, as `Storage.open` does."""
    url = database_url(settings.database, state)
    master = load_master_key(state, environ)
    pending = pending_master_key(state, environ)
    try:
        return await Storage.open(url, Sealer(master), controller=settings.name)
    except WrongMasterKey:
        if pending is None:
            raise
    storage = await Storage.open(url, Sealer(pending), controller=settings.name)
    finish_pending(state)
    return storage
