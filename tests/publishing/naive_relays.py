"""What one would write at first, and what is wrong with it: relays that the tests of the promises must catch.

    by_id_cursor     remembers the last id that it has seen: a row whose transaction commits later is lost
    by_skip_locked   several relays, each taking rows that nobody else has locked: two of them hold two rows of one key

The third mistake is a writer's: `outbox_row_first` draws the position of its row before it has locked the aggregate,
so positions are not in the order in which the changes happened.
"""

import asyncio
import json
from contextlib import suppress
from random import random
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from mediator.messaging.envelope import Envelope
from mediator.storage.database import Database
from mediator.storage.outbox import insert_statement, slot_of
from tests.publishing.relays import Plan, RecordingTransport
from tests.storage.rows import outbox_row
from tests.support import Account

__all__ = ["by_id_cursor", "by_skip_locked", "outbox_row_first"]

_IDLE_SECONDS, _LOCK_LATER_SECONDS = 0.01, 0.01


async def by_id_cursor(plan: Plan) -> None:
    database, transport, last = Database(plan.url), RecordingTransport(plan), 0
    outbox = database.tables.outbox
    while True:
        async with database.read() as connection:
            after = select(outbox).where(outbox.c.position > last).order_by(outbox.c.position).limit(100)
            rows = (await connection.execute(after)).mappings().all()
        async for _ in transport.publish([Envelope.from_row(row) for row in rows]):
            pass
        if rows:
            last = rows[-1]["position"]
        await asyncio.sleep(_IDLE_SECONDS)


async def by_skip_locked(plan: Plan) -> None:
    database, transport = Database(plan.url), RecordingTransport(plan)
    outbox = database.tables.outbox
    while True:
        # InnoDB may find that relays wait for each other crosswise.
        with suppress(OperationalError):
            async with database.begin() as connection:
                free = select(outbox).order_by(outbox.c.position).limit(3).with_for_update(skip_locked=True)
                rows = (await connection.execute(free)).mappings().all()
                async for _ in transport.publish([Envelope.from_row(row) for row in rows]):
                    pass
                done = outbox.c.position.in_([row["position"] for row in rows])
                await connection.execute(delete(outbox).where(done))
        await asyncio.sleep(_IDLE_SECONDS)


async def outbox_row_first(database: Database, account_id: UUID, key: str) -> None:
    """A transaction that counts `key` up, in the wrong order."""
    outbox, accounts = database.tables.outbox, Account.__table__  # type: ignore[attr-defined]
    row = outbox_row(slot=slot_of(key, UUID(int=0)), partition_key=key)
    async with database.writer.begin() as connection:
        await connection.execute(insert_statement(database.tables), [row])
        await asyncio.sleep(random() * _LOCK_LATER_SECONDS)
        counted = accounts.c.id == account_id
        await connection.execute(update(accounts).where(counted).values(balance=accounts.c.balance + 1))
        number = await connection.scalar(select(accounts.c.balance).where(counted))
        body = json.dumps({"key": key, "number": number}).encode()
        position = await connection.scalar(select(outbox.c.position).where(outbox.c.event_id == row["event_id"]))
        its_own = (outbox.c.slot == row["slot"], outbox.c.position == position)
        await connection.execute(update(outbox).where(*its_own).values(body=body))
