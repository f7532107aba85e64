"""sql:// keeps every promise of the protocol, on every database and driver."""

import asyncio
from typing import ClassVar

import pytest

from mediator.messaging.transport import Settlement, Transport
from mediator.testing import TransportSuite
from mediator.testing.conformance.promises import promise
from mediator.testing.conformance.trial import BILLING, Trial, bodies
from mediator.transports import transport_for
from tests.storage.drivers import ON_SERVERS, ON_SQLITE
from tests.support.databases import execute


class SqlSuite(TransportSuite):
    """Applications have tables of their own in one database; a delivery belongs to no connection."""

    url: ClassVar[str]
    redelivers_after_break = False

    @pytest.fixture(autouse=True)
    def _place(self, database_url: str) -> None:
        type(self).url = database_url

    def make_transport(self, application: str) -> Transport:
        mark = "&" if "?" in self.url else "?"
        return transport_for(f"sql+{self.url}{mark}lanes=4&prefix={application.replace('-', '_')}_")


@ON_SQLITE
class TestOnSqlite(SqlSuite):
    pass


@ON_SERVERS
class TestOnServers(SqlSuite):
    async def break_connection(self, transport: Transport) -> None:
        """End every session in the database but the one that does it."""
        await asyncio.to_thread(_end_sessions, self.url)

    @promise()
    async def test_after_a_break_it_goes_on_where_it_was(self, trial: Trial) -> None:
        """What was fetched may be settled after a break, and comes once."""
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(6, keys=["order-1"]))
        first, second, third = await member.fetch(3)

        await self.break_connection(trial.transport)
        await member.acknowledge(first)
        await member.settle(Settlement.GIVE_BACK, second)
        came = await member.fetch(4)

        assert bodies(came) == ["1", "3", "4", "5"]
        assert [delivery.attempt for delivery in came] == [2, 1, 1, 1]
        await member.close()
        again = await (await trial.join()).fetch(5)
        assert bodies(again) == ["1", "2", "3", "4", "5"]
        assert all(delivery.attempt > 1 for delivery in again)
        assert third.epoch == came[0].epoch


def _end_sessions(url: str) -> None:
    if "postgresql" in url:
        ours = "datname = current_database() AND pid <> pg_backend_pid()"
        execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        return
    ours = "db = DATABASE() AND id <> CONNECTION_ID()"
    for (session,) in execute(url, f"SELECT id FROM information_schema.processlist WHERE {ours}"):
        execute(url, f"KILL {session}")
