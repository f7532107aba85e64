"""G8: order per key, given that the writers of a key are serialised by the aggregate's row.

Twelve writers count two hundred keys up, in transactions that pause between their outbox rows and the commit, or roll
back there; one is slow, and commits when hundreds of rows with higher positions were relayed. Four relay processes are
killed, stopped, paused and cut off from the database meanwhile, and the broker refuses now and then. Afterwards it must
have got every number of every key, first occurrences in order.

PROMISES_EVENTS says how many events there are at least (600 by default), PROMISES_SEED what chance decides.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import event, func
from sqlalchemy.util import await_only
from sqlmodel import select

from mediator import MediatorApp, MediatorSettings, Runtime
from mediator.storage.database import Database, DatabaseSettings
from tests.ledger.campaign import new_seed
from tests.publishing.naive_relays import by_id_cursor, by_skip_locked, outbox_row_first
from tests.publishing.relays import CountedV1, Plan, RelayProcess, cut_off, lock_holders, sent, until, verdict
from tests.support import Account, create_tables, module_of

# They need so many processes and connections that two of them at once would disturb others.
pytestmark = pytest.mark.xdist_group("many relays")

EVENTS = int(os.environ.get("PROMISES_EVENTS", "600"))
KEYS, WRITERS, RELAYS, DISTURBANCES = 200, 12, 4, 8
PATIENCE_SECONDS = 60 + EVENTS / 10
# A commit that takes longer is given up.
LONGEST_COMMIT_SECONDS = 20.0

_pause: ContextVar[float | None] = ContextVar("pause", default=0.0)
_doomed = ContextVar("doomed", default=False)


class RolledBackError(Exception):
    """A writer changed its mind."""


def roll_back_the_doomed(place: str) -> None:
    if place == "uow.after_outbox" and _doomed.get():
        raise RolledBackError


class Writers:
    """Counts keys up. What was committed, the accounts' balances say."""

    def __init__(self, app: MediatorApp, random: Random) -> None:
        self.app, self.random = app, random
        self.database: Database = app._started("the test").services[0].database
        self.keys: dict[UUID, str] = {}
        self.hot = 0.3
        """How many of the transactions are about keys that are everybody's."""
        self.count = self._count
        self.may_commit = asyncio.Event()

    async def prepare(self) -> None:
        accounts = [Account(owner=f"key-{number}") for number in range(KEYS)]
        self._slow = Account(owner="slow")
        async with self.app.unit_of_work() as uow:
            uow.session.add_all([*accounts, self._slow])
        self.keys = {account.id: account.owner for account in accounts}
        event.listen(self.database.writer.sync_engine, "commit", lambda _: await_only(self._before_commit()))

    async def write(self) -> None:
        """One of the writers."""
        while True:
            chance = self.random.random
            keys = list(self.keys)[:5] if chance() < self.hot else list(self.keys)
            _pause.set(0.0 if chance() < 0.6 else chance() * 0.004)
            _doomed.set(chance() < 0.1)
            with suppress(RolledBackError):
                await self.count(*self.random.sample(keys, 2 if chance() < 0.3 else 1))

    async def write_slowly(self) -> None:
        """A transaction whose row gets an early position and is committed late."""
        _pause.set(None)
        await self.count(self._slow.id)

    async def _before_commit(self) -> None:
        seconds = _pause.get()
        if seconds is not None:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_COMMIT_SECONDS):
                await self.may_commit.wait()

    async def _count(self, *accounts: UUID) -> None:
        async with self.app.unit_of_work() as uow:
            # In one order for all, so that nobody waits crosswise.
            for account_id in sorted(accounts):
                account = await uow.session.get_one(Account, account_id, with_for_update=True)
                account.balance += 1
                uow.publish(CountedV1(key=account.owner, number=account.balance))

    async def outbox_row_first(self, *accounts: UUID) -> None:
        await outbox_row_first(self.database, accounts[0], self.keys.get(accounts[0], "slow"))

    async def committed(self) -> dict[str, int]:
        async with self.app.unit_of_work() as uow:
            return {account.owner: account.balance for account in await uow.session.exec(select(Account))}

    async def all_is_sent(self) -> bool:
        async with self.database.read() as connection:
            return await connection.scalar(select(func.count()).select_from(self.database.tables.outbox)) == 0


class Relays:
    """Processes that are not left in peace."""

    def __init__(self, plan: Plan, random: Random, number: int = RELAYS) -> None:
        self._random, self._database = random, Database(plan.url)
        self.processes = [RelayProcess(plan) for _ in range(number)]
        self.left_alone = asyncio.Event()
        self.disturbances: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for process in self.processes:
            await asyncio.to_thread(process.start)
        try:
            yield
        finally:
            for process in self.processes:
                await asyncio.to_thread(process.__exit__, None, None, None)
            await self._database.close()

    async def disturb(self) -> None:
        """One after the other, each in its own way, until they are left alone."""
        ways: dict[str, Callable[[RelayProcess], Awaitable[None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "pause": self._pause,
            "cut off": self._cut_off,
        }
        while not self.left_alone.is_set():
            await asyncio.sleep(self._random.uniform(0.1, 0.4))
            way = self._random.choice(list(ways))
            await ways[way](self._random.choice(self.processes))
            self.disturbances[way] += 1

    async def _kill(self, process: RelayProcess) -> None:
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)

    async def _stop(self, process: RelayProcess) -> None:
        await process.stop()
        await asyncio.to_thread(process.start)

    async def _pause(self, process: RelayProcess) -> None:
        process.send(signal.SIGSTOP)
        # Whether it has its locks still when it wakes is left to chance.
        if self._random.random() < 0.5:
            await self._cut_off()
        await asyncio.sleep(self._random.uniform(0.1, 0.6))
        process.send(signal.SIGCONT)

    async def _cut_off(self, _process: RelayProcess | None = None) -> None:
        if self._database.dialect != "sqlite":
            holders = sorted(await lock_holders(self._database))
            await cut_off(self._database, self._random.sample(holders, min(2, len(holders))))


@pytest.fixture
def random(record_property: Callable[[str, object], None]) -> Random:
    seed = new_seed()
    print(f"PROMISES_SEED={seed}")  # noqa: T201 - shown when the test fails
    record_property("PROMISES_SEED", seed)
    return Random(seed)


@pytest_asyncio.fixture
async def writers(database_url: str, random: Random) -> AsyncIterator[Writers]:
    await create_tables(database_url)
    settings = MediatorSettings(database=DatabaseSettings(connections=WRITERS + 1))
    app = MediatorApp(
        "shop",
        modules=[module_of("bank")],
        database=database_url,
        environment="test",
        roles={"publish"},
        schema="create",
        settings=settings,
        runtime=Runtime(reached=roll_back_the_doomed),
    )
    async with app:
        writers = Writers(app, random)
        await writers.prepare()
        yield writers


@asynccontextmanager
async def at_work(*work: Awaitable[None]) -> AsyncIterator[Sequence[asyncio.Future[None]]]:
    """Tasks that are cancelled at the end; what failed fails the test."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [error for error in ended if isinstance(error, Exception)]
    assert not failed, failed


@pytest.mark.every_database
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
async def test_relays_that_come_and_go_lose_nothing_and_keep_the_order_of_every_key(
    writers: Writers, random: Random, database_url: str, tmp_path: Path
) -> None:
    relays = Relays(Plan(database_url, tmp_path, pause_seconds=0.002, refusals=0.01), random)
    if writers.database.dialect == "sqlite":
        # One transaction writes at a time: a slow one would keep everybody from writing.
        writers.may_commit.set()
    async with relays.running():
        disturbing = asyncio.ensure_future(relays.disturb())
        async with at_work(writers.write_slowly(), *(writers.write() for _ in range(WRITERS))) as (slow, *_):
            await until(lambda: len(sent(tmp_path)) > EVENTS / 2, PATIENCE_SECONDS, every_seconds=0.1)
            writers.may_commit.set()
            await slow
            await until(lambda: len(sent(tmp_path)) > EVENTS, PATIENCE_SECONDS, every_seconds=0.1)
            await until(lambda: relays.disturbances.total() >= DISTURBANCES, PATIENCE_SECONDS)
        relays.left_alone.set()
        await disturbing
        await until(writers.all_is_sent, PATIENCE_SECONDS)
        for process in relays.processes:
            await process.stop()
    record, committed = sent(tmp_path), await writers.committed()

    assert verdict(record, committed) == []
    assert committed["slow"] == 1
    print(f"{sum(committed.values())} events, sent {len(record)} times, {dict(relays.disturbances)}")  # noqa: T201


@pytest.mark.databases("postgresql", "mariadb")
async def test_a_relay_that_remembers_the_last_id_is_found_out(
    writers: Writers, random: Random, database_url: str, tmp_path: Path
) -> None:
    relays = Relays(Plan(database_url, tmp_path, work=by_id_cursor), random, number=1)
    async with (
        relays.running(),
        at_work(writers.write_slowly(), *(writers.write() for _ in range(WRITERS))) as (slow, *_),
    ):
        await until(lambda: len(sent(tmp_path)) > 50)
        writers.may_commit.set()
        await slow
        committed, sent_by_then = await writers.committed(), len(sent(tmp_path))
        await until(lambda: len(sent(tmp_path)) > sent_by_then + 50)

    assert "slow: 1 was lost" in verdict(sent(tmp_path), committed)


@pytest.mark.databases("postgresql", "mariadb")
async def test_relays_that_skip_what_others_have_locked_are_found_out(
    writers: Writers, random: Random, database_url: str, tmp_path: Path
) -> None:
    writers.hot = 1
    relays = Relays(Plan(database_url, tmp_path, pause_seconds=0.1, work=by_skip_locked), random)
    async with relays.running(), at_work(*(writers.write() for _ in range(WRITERS))):
        await until(lambda: is_out_of_order(tmp_path), PATIENCE_SECONDS, every_seconds=0.1)


@pytest.mark.databases("postgresql", "mariadb")
async def test_writers_that_draw_positions_before_they_lock_are_found_out(
    writers: Writers, random: Random, database_url: str, tmp_path: Path
) -> None:
    writers.hot, writers.count = 1, writers.outbox_row_first
    relays = Relays(Plan(database_url, tmp_path), random, number=2)
    async with relays.running(), at_work(*(writers.write() for _ in range(WRITERS))):
        await until(lambda: is_out_of_order(tmp_path), PATIENCE_SECONDS, every_seconds=0.1)


def is_out_of_order(folder: Path) -> bool:
    return any("came before" in what for what in verdict(sent(folder), {}))
