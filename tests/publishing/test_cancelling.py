"""A unit of work that is cancelled lets go of the database, wherever the cancellation meets it."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import CommandHandler, UnitOfWork
from tests.publishing.bank import Do, Happened, HappenedConverter, facts
from tests.storage.rows import eventually
from tests.support import Account, AppFactory, Effect, effects, module_of
from tests.support.databases import execute
from tests.support.interruptions import Interruption


class Doer(CommandHandler[Do, Any]):
    def __init__(self, session: AsyncSession, unit_of_work: UnitOfWork) -> None:
        self.session, self.unit_of_work = session, unit_of_work

    async def handle(self, command: Do) -> int:
        account = Account(owner=command.what)
        self.session.add(account)
        account.record_event(Happened(command.what))
        await self.session.flush()
        async with self.unit_of_work.savepoint():
            self.session.add(Effect(what=command.what))
        await self.session.exec(select(Account))
        return 1


_TRANSACTIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL",
    "mysql": "SELECT trx_id FROM information_schema.innodb_trx "
    "JOIN information_schema.processlist ON id = trx_mysql_thread_id "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


def others_can_write(url: str) -> bool:
    """Whether no transaction is open (in SQLite, none that writes)."""
    backend = make_url(url).get_backend_name()
    if backend in _TRANSACTIONS:
        return execute(url, _TRANSACTIONS[backend]) == []
    with closing(sqlite3.connect(make_url(url).database or "", timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        other.execute("ROLLBACK")
        return True


@pytest.mark.parametrize("soon", [False, True])
async def test_no_lock_is_left_wherever_it_is_cancelled(make_app: AppFactory, database_url: str, soon: bool) -> None:
    kept: list[int | BaseException] = []
    async with make_app(module_of("bank", Doer, HappenedConverter)) as app:
        for number in range(1, 1_000):
            interruption = Interruption(number, soon=soon)
            task = asyncio.create_task(interruption.of(app.mediator.send(Do(str(number)))))
            # The error is kept: its frames hold the cursors, which must not be what the lock hangs on.
            kept.extend(await asyncio.gather(task, return_exceptions=True))
            await eventually(lambda: others_can_write(database_url))
            if not interruption.happened:
                break

        assert kept[-1] == 1
        assert all(isinstance(outcome, (int, asyncio.CancelledError)) for outcome in kept)
        done = sorted(what for what, _ in await effects(app))
        assert sorted(await facts(app, database_url)) == done
        assert {str(number + 1) for number, outcome in enumerate(kept) if outcome == 1} <= set(done)
