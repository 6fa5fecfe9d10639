"""A record of the audit log as commands and exports see it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """A record: its place, when it was written, what it says (the event as a JSON document)."""

    chain: UUID
    seq: int
    at: datetime
    kind: str
    event: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As the commands show it."""
        return {
            "at": self.at.isoformat(),
            "kind": self.kind,
            "event": self.event,
            "chain": str(self.chain),
            "seq": self.seq,
        }
