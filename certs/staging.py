"""Several files of a directory that change together, whole or not at all.

Laws:

1. New files are written to a directory beside (``LABEL.new``). Its rename to ``LABEL`` is the one moment of change;
   then they are moved to their places, in the order of ``names``.
2. A crash before that moment changes nothing, one after it is mended by ``finish``, which whoever reads the files calls
   first. Two that finish at once, or one after a crash, end the same.
3. Whoever reads one of the files while others are moved sees the old or the new one, never half of it.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Staging:
    """The changes of ``names``, files of ``directory``; the caller keeps others from changing them at once."""

    def __init__(self, directory: Path, label: str, names: Sequence[str]) -> None:
        self._directory = directory
        self._unfinished = directory / f"{label}.new"
        self._committed = directory / label
        self._names = tuple(names)

    @property
    def pending(self) -> bool:
        """Whether a change has been made whose files are not in their places yet."""
        return self._committed.exists()

    def begin(self) -> Path:
        """An empty directory for the new files; those of ``names`` that are not written stay as they are."""
        self.finish()
        if self._unfinished.exists():
            shutil.rmtree(self._unfinished)
        self._unfinished.mkdir(mode=0o700)
        return self._unfinished

    def commit(self) -> None:
        """What was written since ``begin`` is what counts."""
        self._unfinished.rename(self._committed)
        _sync(self._directory)
        self.finish()

    def finish(self) -> None:
        """Moves the files of a change to their places, if one was made."""
        if not self._committed.exists():
            return
        for name in self._names:
            with suppress(FileNotFoundError):
                (self._committed / name).replace(self._directory / name)
        _sync(self._directory)
        with suppress(FileNotFoundError):
            self._committed.rmdir()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
