"""What became of a commit whose answer was lost: the session has ended, or is ended, and the tables say the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.storage import outcome
from mediator.storage.database import Database
from mediator.storage.engines import ServerSession
from mediator.storage.outbox import OutboxTable, insert_statement
from mediator.storage.outcome import was_committed
from mediator.storage.parked import DEAD, SENDING_SIDE
from mediator.storage.scheduled import Schedule
from tests.storage.drivers import ON_SERVERS
from tests.storage.rows import end_session, eventually, outbox_row, session_of, stored
from tests.storage.test_database import sessions

pytestmark = ON_SERVERS

ENDED = 2_000_000_000
"""A session that no server has."""
TEN_YEARS = 315_360_000.0


async def found_out(
    database: Database,
    row: dict[str, Any],
    number: int = ENDED,
    age_seconds: float = 0.0,
    *,
    keeps_history: bool = True,
) -> bool | None:
    made_at = asyncio.get_running_loop().time() - age_seconds
    return await was_committed(database, ServerSession(number, made_at), row, keeps_history=keeps_history)


async def committed(database: Database, **changes: Any) -> dict[str, Any]:
    row = outbox_row(causation_id="the command", **changes)
    async with database.begin() as connection:
        await connection.execute(insert_statement(database.tables), [row])
    return row


@asynccontextmanager
async def under_way(database: Database) -> AsyncIterator[tuple[AsyncConnection, dict[str, Any], int]]:
    """A transaction that has inserted its row and whose client is silent then."""
    row = outbox_row(causation_id="the command")
    async with database.dedicated() as connection:
        # A dedicated connection minds nothing when it is ended from elsewhere.
        await connection.exec_driver_sql("BEGIN")
        await connection.execute(insert_statement(database.tables), [row])
        yield connection, row, await session_of(connection)


@pytest.mark.parametrize("keeps_history", [True, False])
async def test_a_row_that_is_still_there_was_committed(database: Database, keeps_history: bool) -> None:
    row = await committed(database)

    assert await found_out(database, row, keeps_history=keeps_history) is True


async def test_a_row_that_was_sent_meanwhile_was_committed(database: Database) -> None:
    row = await committed(database)
    await OutboxTable(database).complete([(0, 1)], keep_history=True)

    assert await found_out(database, row) is True


@pytest.mark.parametrize("keeps_history", [True, False])
async def test_a_row_that_could_not_be_sent_was_committed(database: Database, keeps_history: bool) -> None:
    row = await committed(database)
    facts = {"reason": "refused", "topic": "t", "headers": "{}", "body": b""}
    async with database.begin() as connection:
        await OutboxTable(database).remove(connection, (0, 1))
        dead = {"subscriber_id": SENDING_SIDE, "event_id": row["event_id"], "status": DEAD, **facts}
        await connection.execute(insert(database.tables.parked), [dead])

    assert await found_out(database, row, keeps_history=keeps_history) is True


async def test_a_scheduled_row_that_came_due_meanwhile_was_committed(database: Database) -> None:
    row = await committed(database, slot=-1, delay=-1)
    assert await found_out(database, row) is True
    await Schedule(database).release([0], 10)

    assert await found_out(database, row) is True


async def test_a_row_that_is_nowhere_was_not_committed_if_there_is_a_history(database: Database) -> None:
    await committed(database)
    row = outbox_row(causation_id="the command")

    assert await found_out(database, row) is False
    assert await found_out(database, row, keeps_history=False) is None


@pytest.mark.parametrize("place", ["outbox", "sent"])
async def test_the_same_event_of_another_command_does_not_count(database: Database, place: str) -> None:
    row = await committed(database)
    if place == "sent":
        await OutboxTable(database).complete([(0, 1)], keep_history=True)

    assert await found_out(database, {**row, "causation_id": "another command"}) is False


async def test_what_a_handler_was_told_of_is_not_taken_for_what_was_sent(database: Database) -> None:
    row = outbox_row(event_id=uuid4())
    facts = {"reason": "failed", "topic": "t", "headers": "{}", "body": b""}
    async with database.begin() as connection:
        parked = {"subscriber_id": "mail.welcome", "event_id": row["event_id"], "status": DEAD, **facts}
        await connection.execute(insert(database.tables.parked), [parked])

    assert await found_out(database, row) is False


async def test_a_session_that_is_idle_in_its_transaction_is_ended(database: Database, database_url: str) -> None:
    async with under_way(database) as (_connection, row, session):
        assert await found_out(database, row, session) is False

    assert await stored(database_url, "outbox") == []


async def test_a_commit_that_comes_late_is_waited_for(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "_BEFORE_ENDING_SECONDS", 60.0)
    async with under_way(database) as (connection, row, session):
        task = asyncio.create_task(found_out(database, row, session))
        await asyncio.sleep(0.3)
        assert not task.done()
        await connection.exec_driver_sql("COMMIT")
        end_session(database_url, session)

        assert await task is True


async def test_a_session_that_does_not_end_leaves_it_unknown(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "_BEFORE_ENDING_SECONDS", 60.0)
    monkeypatch.setattr(outcome, "_PATIENCE_SECONDS", 0.5)
    async with under_way(database) as (connection, row, session):
        assert await found_out(database, row, session) is None

        assert await connection.scalar(text("SELECT 1")) == 1


async def test_whoever_has_the_number_since_the_server_started_again_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "_BEFORE_ENDING_SECONDS", 0.0)
    async with under_way(database) as (connection, row, session):
        assert await found_out(database, row, session, TEN_YEARS) is False

        assert await connection.scalar(text("SELECT 1")) == 1


async def test_while_the_database_is_away_it_is_unknown(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "_PATIENCE_SECONDS", 0.5)
    database = Database(Database(database_url).url.set(port=1))

    assert await found_out(database, outbox_row()) is None
    await database.close()


async def test_a_database_that_comes_back_is_asked_then(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    row = await committed(database)
    tries = 0
    dedicated = database.dedicated

    def away_at_first() -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionRefusedError
        return dedicated()

    monkeypatch.setattr(database, "dedicated", away_at_first)

    assert await found_out(database, row) is True
    assert tries == 3


async def test_behind_a_pooler_that_numbers_sessions_in_its_own_way_nobody_can_say(database: Database) -> None:
    row = await committed(database)
    database.sees_sessions = False

    assert await found_out(database, row) is None


async def test_finding_out_leaves_no_connection_behind(database: Database, database_url: str) -> None:
    row = await committed(database)
    await found_out(database, row)
    await database.close()

    await eventually(lambda: len(sessions(database_url)) == 1)
