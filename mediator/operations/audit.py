"""The audit trail: who did what to which delivery, written in the transaction of the deed."""

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.tables import Tables

__all__ = ["record"]


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
    await connection.execute(
        insert(tables.audit),
        [{"actor": actor[:100], "action": action, "subject": subject[:200], "reason": reason, "detail": detail}],
    )
