"""The audit trail: who did what to which delivery, written in the transaction of the deed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.tables import Tables

__all__ = ["AuditEntry", "entries", "record", "record_each"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed."""

    at: datetime
    actor: str
    action: str
    subject: str
    reason: str | None
    detail: str | None


async def entries(connection: AsyncConnection, tables: Tables, limit: int) -> Sequence[AuditEntry]:
    """The trail, newest first."""
    row = tables.audit.c
    columns = (row.at, row.actor, row.action, row.subject, row.reason, row.detail)
    found = await connection.execute(select(*columns).order_by(row.id.desc()).limit(limit))
    return [AuditEntry(*entry) for entry in found]


async def record(
    connection: AsyncConnection,
    tables: Tables,
    *,
    actor: str,
    action: str,
    subject: str,
    reason: str | None = None,
    detail: str | None = None,
) -> None:
    """Add a line to the trail."""
    await record_each(connection, tables, [subject], actor=actor, action=action, reason=reason, detail=detail)


async def record_each(
    connection: AsyncConnection,
    tables: Tables,
    subjects: Sequence[str],
    *,
    actor: str,
    action: str,
    reason: str | None,
    detail: str | None = None,
) -> None:
    """Add a line for each subject to the trail."""
    said = {"actor": actor[:100], "action": action, "reason": reason, "detail": detail}
    if subjects:
        await connection.execute(insert(tables.audit), [{**said, "subject": subject[:200]} for subject in subjects])
