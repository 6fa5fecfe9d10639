"""`audit verify` on a state directory, whether the controller runs or not."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.audit.verification import Intact, verify_database
from controller.config import load_controller_settings
from controller.storage.opening import open_storage


def verify_state(state: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Checks every chain; answers `intact`, `chains`, `records`, `what` (a sentence), `findings` or `witnesses`."""
    return asyncio.run(_verify(state, os.environ if environ is None else environ))


async def _verify(state: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    settings = load_controller_settings(state, environ)
    async with await open_storage(state, settings, environ) as storage:
        result = await verify_database(storage)
    document: dict[str, Any] = {"chains": result.chains, "records": result.records}
    if isinstance(result, Intact):
        witnesses = [
            {"chain": str(each.chain), "length": each.length, "mac": each.mac.hex()} for each in result.witnesses
        ]
        return {"intact": True, **document, "what": "every record is as it was written", "witnesses": witnesses}
    findings = [str(finding) for finding in result.findings]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return {"intact": False, **document, "what": findings[0] + more, "findings": findings}
