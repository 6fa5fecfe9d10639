"""Conditional updates: the only way to use something up once, whoever asks at the same time.

The condition and the change are one statement, so the database lets exactly one of the askers through (SPIRE 1.14.6 and
Tailscale TS-2025-007 looked first and changed afterwards).
"""

from typing import Any, cast

from sqlalchemy import CursorResult, Update
from sqlalchemy.ext.asyncio import AsyncSession


async def changed_one(db: AsyncSession, statement: Update) -> bool:
    """Whether the UPDATE changed exactly one row."""
    result = cast("CursorResult[Any]", await db.execute(statement))
    return result.rowcount == 1
