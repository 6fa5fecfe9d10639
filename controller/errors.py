"""What can go wrong in a controller, each with what to do about it.

All but the last are :class:`console.errors.CommandError`, so a command that meets one says it in one line. The last,
:class:`Refused`, is an answer of a running controller, with a code of its own.
"""

from console.errors import CommandError, ExitCode


class ControllerError(CommandError):
    """Anything the controller cannot do as it stands."""


class SettingsError(ControllerError):
    """Settings that cannot be used together, or not for this."""


class StorageError(ControllerError):
    """The database or the state directory cannot be used as it is: missing, damaged, newer, another master key."""


class WrongMasterKey(StorageError):  # noqa: N818 - reads as what it is
    """The database was made with another master key."""

    def __init__(self) -> None:
        super().__init__(
            "the master key is not the one this database was made with",
            "put back the master.key of this perimeter (or its GLOAM_MASTER_KEY)",
        )


class StorageUnavailable(StorageError):  # noqa: N818 - reads as what it is
    """The database does not answer now. Nothing was acknowledged; the same request may succeed later (HTTP 503)."""

    def __init__(self, what: str, fix: str = "try again in a moment; check that the database runs") -> None:
        super().__init__(what, fix, ExitCode.UNREACHABLE)


class SealError(StorageError):
    """A sealed value does not open here: it was changed, belongs to another row, or to another master key."""


class Refused(Exception):  # noqa: N818 - reads as what it is
    """A request that cannot be done, and changed nothing: ``code`` is for machines, ``what`` and ``fix`` for people.

    A code that begins with ``bad_`` says that the request itself is wrong, whatever the perimeter holds: wrong usage.
    """

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.code = code
        self.what = what
        self.fix = fix

    @property
    def misused(self) -> bool:
        """Whether the command was used wrongly (its exit code is then 2)."""
        return self.code.startswith("bad_")
