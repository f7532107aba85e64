"""What became of a commit whose answer was lost: the connection broke while it was on its way.

Nothing is guessed. First the server must have ended the session, because until then the transaction may still commit;
a session that only waits for its client, which is gone, is ended from here. After that the outcome is what the tables
say: a row of the outbox was part of the transaction, and it is either there (or in the history) or it is not.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import exists, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage.columns import MYSQL
from mediator.storage.database import Database
from mediator.storage.engines import ServerSession
from mediator.storage.parked import SENDING_SIDE

__all__ = ["was_committed"]

_PATIENCE_SECONDS, _BEFORE_ENDING_SECONDS, _BETWEEN_SECONDS = 10.0, 0.5, 0.05
# MySQL tells its uptime in whole seconds. Of a session as young as that, when the server restarts, nothing is said.
_SLACK_SECONDS = 1.0
_POSTGRESQL = (
    text("SELECT EXTRACT(EPOCH FROM statement_timestamp() - pg_postmaster_start_time())"),
    text("SELECT 1 FROM pg_stat_activity WHERE pid = :session AND backend_type = 'client backend'"),
    text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :session"
        " AND state = 'idle in transaction' AND usename = current_user AND datname = current_database()"
    ),
)
_MYSQL = (
    text("SHOW GLOBAL STATUS LIKE 'Uptime'"),
    text("SELECT 1 FROM information_schema.processlist WHERE id = :session AND id <> CONNECTION_ID()"),
    text("KILL :session"),
)


async def was_committed(
    database: Database, session: ServerSession, row: Mapping[str, Any], *, keeps_history: bool
) -> bool | None:
    """Whether the transaction of `session` that inserted the outbox row `row` was committed; None when unknown.

    Takes up to ten seconds. Without a history nobody can say of a row that is gone whether it was ever there.
    """
    if not database.sees_sessions:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                try:
                    return await _look(database, session, row) or (False if keeps_history else None)
                except (DBAPIError, OSError):
                    # The database is not back yet.
                    await asyncio.sleep(_BETWEEN_SECONDS * 10)
    except TimeoutError:
        return None


async def _look(database: Database, session: ServerSession, row: Mapping[str, Any]) -> bool:
    async with database.dedicated() as connection:
        await _ended(database, connection, session)
        return await _is_there(database, connection, row)


async def _ended(database: Database, connection: AsyncConnection, session: ServerSession) -> None:
    uptime, is_there, end = _MYSQL if database.dialect in MYSQL else _POSTGRESQL
    number, waited = {"session": session.number}, 0.0
    while await connection.scalar(is_there, number) is not None:
        # A server that has started since counts anew: what has this number now is somebody else.
        older_by = float((await connection.execute(uptime)).one()[-1]) - session.age_seconds
        if older_by < -_SLACK_SECONDS:
            return
        if waited >= _BEFORE_ENDING_SECONDS and older_by > _SLACK_SECONDS:
            await connection.execute(end, number)
        await asyncio.sleep(_BETWEEN_SECONDS)
        waited += _BETWEEN_SECONDS


async def _is_there(database: Database, connection: AsyncConnection, row: Mapping[str, Any]) -> bool:
    outbox, sent, parked = database.tables.outbox.c, database.tables.sent.c, database.tables.parked.c
    event_id, cause = row["event_id"], row["causation_id"]
    # In the order in which a row passes them.
    for place in (
        (outbox.slot.in_([row["slot"], -1 - row["slot"]]), outbox.event_id == event_id, outbox.causation_id == cause),
        (sent.event_id == event_id, sent.causation_id == cause),
        (parked.subscriber_id == SENDING_SIDE, parked.event_id == event_id),
    ):
        if await connection.scalar(select(exists().where(*place))):
            return True
    return False
