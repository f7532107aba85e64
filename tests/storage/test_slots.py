"""Slots are owned by locks that die with their holder, and shared by whoever sits there: evenly, and never twice."""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from mediator.storage import slots
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS
from mediator.storage.slots import FileLocks, ServerLocks, SlotLocks, slot_locks
from tests.storage.drivers import ON_MYSQL, ON_POSTGRESQL, ON_SERVERS, ON_SQLITE
from tests.storage.rows import end_session, eventually, session_of
from tests.support.databases import Servers
from tests.support.interruptions import Interruption

ALL = frozenset(range(SLOTS))
NONE: frozenset[int] = frozenset()

Join = Callable[[], ServerLocks]


@pytest_asyncio.fixture
async def join(database_url: str) -> AsyncIterator[Join]:
    """Makes the locks of one more relay."""
    async with AsyncExitStack() as stack:
        database = Database(database_url)
        stack.push_async_callback(database.close)

        def joined() -> ServerLocks:
            locks = ServerLocks(database)
            stack.push_async_callback(locks.release)
            return locks

        yield joined


async def look(*relays: ServerLocks) -> list[frozenset[int]]:
    """What each has when all have looked often enough to see what the others did."""
    for relay in relays * 2:
        await relay.acquire(())
    return [await relay.acquire(()) for relay in relays]


async def all_go_to(relay: SlotLocks) -> None:
    """Wait until a relay has every slot: the server may need a moment to see that a connection is gone."""

    async def has_all() -> bool:
        return await relay.acquire(()) == ALL

    await eventually(has_all)


async def cut(relay: ServerLocks, url: str) -> None:
    """End the session that holds a relay's locks."""
    assert relay._session._connection is not None
    end_session(url, await session_of(relay._session._connection))


def are_fair(shares: Sequence[Collection[int]]) -> bool:
    sizes = [len(share) for share in shares]
    return Counter(slot for share in shares for slot in share) == Counter(ALL) and max(sizes) - min(sizes) <= 1


def hold(url: str, told: Connection) -> None:
    async def held() -> None:
        locks = slot_locks(Database(url))
        told.send(len(await locks.acquire(())))
        await asyncio.to_thread(told.recv)

    asyncio.run(held())


@asynccontextmanager
async def locks_of(*databases: Database) -> AsyncIterator[list[SlotLocks]]:
    every = [slot_locks(database) for database in databases]
    try:
        yield every
    finally:
        for locks in every:
            await locks.release()
        for database in databases:
            await database.close()


@pytest.mark.every_database
async def test_a_killed_process_owns_nothing_any_more(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(database_url, there))
    process.start()
    assert await asyncio.to_thread(here.recv) == SLOTS
    async with locks_of(Database(database_url)) as (mine,):
        assert await mine.acquire(()) == NONE

        process.kill()
        process.join()

        await all_go_to(mine)
    for end in (here, there):
        end.close()


@pytest.mark.every_database
async def test_two_prefixes_in_one_database_do_not_share_locks(database_url: str) -> None:
    async with locks_of(Database(database_url), Database(database_url, prefix="other_")) as (one, other):
        assert await one.acquire(()) == await other.acquire(()) == ALL


@ON_SQLITE
async def test_on_sqlite_one_relay_at_a_time_owns_the_slots(database_url: str) -> None:
    async with locks_of(Database(database_url), Database(database_url)) as (one, other):
        assert isinstance(one, FileLocks)
        assert await one.acquire(()) == ALL
        assert await one.acquire(()) == ALL
        assert await other.acquire(()) == NONE
        await one.leave([3])
        assert await other.acquire(()) == NONE
        await one.leave(())
        assert await other.acquire(()) == ALL
        await other.release()
        assert await one.acquire(()) == ALL


async def test_two_files_do_not_share_a_lock(tmp_path: Path) -> None:
    files = [Database(f"sqlite+aiosqlite:///{tmp_path / name}") for name in ("one.db", "other.db")]
    async with locks_of(*files) as (one, other):
        assert await one.acquire(()) == await other.acquire(()) == ALL


async def test_a_database_in_memory_belongs_to_its_process() -> None:
    async with locks_of(Database("sqlite+aiosqlite://")) as (locks,):
        assert await locks.acquire(()) == ALL


@ON_SERVERS
@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [16]), (2, [8, 8]), (3, [6, 5, 5]), (4, [4, 4, 4, 4]), (5, [4, 3, 3, 3, 3])]
)
async def test_slots_are_shared_out_evenly(join: Join, count: int, sizes: list[int]) -> None:
    relays = [join() for _ in range(count)]

    shares = await look(*relays)
    assert sorted(map(len, shares), reverse=True) == sizes
    assert are_fair(shares)
    assert await look(*relays) == shares, "whoever looks again finds nothing to change"


@ON_SERVERS
async def test_when_one_leaves_its_slots_go_to_the_others(join: Join) -> None:
    relays = [join() for _ in range(4)]
    await look(*relays)
    await relays.pop(1).release()

    assert are_fair(await look(*relays))


@ON_SERVERS
async def test_a_busy_slot_is_kept_and_nothing_more_of_it_relayed(join: Join) -> None:
    one, other = join(), join()
    await one.acquire(())
    await other.acquire(())

    assert 3 not in await one.acquire([3, 4])
    assert await other.acquire(()) == {slot for slot in ALL if slot % 2} - {3}

    await one.acquire([4])
    assert await other.acquire(()) == {slot for slot in ALL if slot % 2}


@ON_SERVERS
async def test_whoever_stops_gives_up_what_is_not_busy(join: Join) -> None:
    one, other = join(), join()
    await look(one, other)

    await one.leave([0, 2])
    assert await other.acquire(()) == ALL - {0, 2}
    await one.leave([2])
    assert await other.acquire(()) == ALL - {2}
    await one.release()

    await all_go_to(other)
    assert are_fair(await look(one, other)), "it may come back"


@ON_SERVERS
async def test_whoever_never_came_can_leave(join: Join) -> None:
    locks = join()
    await locks.leave(())
    await locks.release()

    assert await locks.acquire(()) == ALL


@ON_SERVERS
async def test_locks_whose_connection_is_cut_are_lost_and_taken_again(join: Join, database_url: str) -> None:
    one, other = join(), join()
    await look(one, other)

    await cut(one, database_url)

    await all_go_to(other)
    with capture_logs() as logs:
        assert await one.acquire(()) == NONE
        assert are_fair(await look(one, other))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("locks.lost", "warning")]


@ON_SERVERS
async def test_while_the_database_is_away_nothing_is_owned_and_it_is_said_once(database_url: str) -> None:
    database = Database(Database(database_url).url.set(port=1))
    locks = ServerLocks(database)
    with capture_logs() as logs:
        assert [await locks.acquire(()) for _ in range(3)] == [NONE] * 3
        await locks.leave(())
        await locks.release()
    await database.close()

    assert [entry["event"] for entry in logs] == ["locks.lost"]


@ON_SERVERS
async def test_what_is_no_outage_is_raised(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: object) -> set[int]:
        raise KeyError

    one, other = join(), join()
    assert await one.acquire(()) == ALL
    monkeypatch.setattr(one._names, "taken", broken)
    with pytest.raises(KeyError):
        await one.acquire(())

    await all_go_to(other)


@ON_SERVERS
@pytest.mark.parametrize("number", [1, 3, 8, 15])
async def test_looking_that_is_cancelled_leaves_no_lock_behind(join: Join, number: int) -> None:
    one, other = join(), join()
    interruption = Interruption(number)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(interruption.of(one.acquire(())))
    assert interruption.happened

    await all_go_to(other)


@ON_SERVERS
async def test_the_locks_of_whoever_falls_silent_are_freed(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_SILENCE_SECONDS", 1)
    silent, other = join(), join()
    await look(silent, other)

    await all_go_to(other)


@ON_SERVERS
async def test_whoever_looks_now_and_then_keeps_its_locks(
    join: Join, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_SILENCE_SECONDS", 2)
    locks = join()
    await locks.acquire(())
    assert locks._session._connection is not None
    session = await session_of(locks._session._connection)
    for _ in range(15):
        await asyncio.sleep(0.2)
        assert await locks.acquire(()) == ALL
    assert await session_of(locks._session._connection) == session


@ON_POSTGRESQL
async def test_connections_that_hold_locks_are_found_dead_within_ten_seconds(join: Join) -> None:
    locks = join()
    await locks.acquire(())
    assert locks._session._connection is not None
    shown = {}
    for name in ("idle", "interval", "count"):
        shown[name] = int(
            (await locks._session._connection.exec_driver_sql(f"SHOW tcp_keepalives_{name}")).scalar_one()
        )

    assert shown["idle"] + shown["interval"] * shown["count"] <= 10
    assert (await locks._session._connection.exec_driver_sql("SHOW idle_session_timeout")).scalar_one() == "10s"


@ON_MYSQL
async def test_connections_that_hold_locks_are_ended_after_ten_silent_seconds(join: Join) -> None:
    locks = join()
    await locks.acquire(())
    assert locks._session._connection is not None

    assert (await locks._session._connection.exec_driver_sql("SELECT @@session.wait_timeout")).scalar_one() == 10


@ON_SERVERS
async def test_whoever_finds_no_seat_waits_for_one(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SEATS", 2)
    relays = [join() for _ in range(3)]

    *first_two, last = await look(*relays)
    assert are_fair(first_two)
    assert last == NONE

    await relays[0].leave(())
    assert are_fair(await look(*relays[1:]))


@ON_SERVERS
async def test_locks_of_others_in_the_database_do_not_count(join: Join, database_url: str) -> None:
    locks = join()
    other = Database(database_url)
    async with other.dedicated() as connection:
        taken = "pg_advisory_lock(0, 16)" if other.dialect == "postgresql" else "GET_LOCK('16', 0)"
        await connection.exec_driver_sql(f"SELECT {taken}")
        assert await locks.acquire(()) == ALL
    await other.close()


async def test_two_databases_of_a_server_do_not_share_locks(servers: Servers, tmp_path: Path) -> None:
    # On MariaDB and MySQL, names of locks are the server's.
    with ExitStack() as stack:
        urls = [stack.enter_context(servers.new_database("mariadb", tmp_path)) for _ in range(2)]
        async with locks_of(*map(Database, urls)) as (one, other):
            assert await one.acquire(()) == await other.acquire(()) == ALL


@ON_SERVERS
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_relays_do_no_slot_has_two_owners(join: Join, database_url: str, seed: int) -> None:
    random = Random(seed)
    relays = [join() for _ in range(4)]
    owned: dict[ServerLocks, frozenset[int]] = dict.fromkeys(relays, NONE)
    busy: dict[ServerLocks, set[int]] = {relay: set() for relay in relays}
    for _ in range(40):
        relay = random.choice(relays)
        match random.choice(["look", "look", "look", "work", "leave", "release", "cut"]):
            case "look":
                owned[relay] = await relay.acquire(busy[relay])
            case "work":
                busy[relay] = {slot for slot in owned[relay] | busy[relay] if random.random() < 0.3}
            case "leave":
                await relay.leave(busy[relay])
                owned[relay] = NONE
            case "release":
                await relay.release()
                owned[relay], busy[relay] = NONE, set()
            case "cut" if relay._session._connection is not None:
                await cut(relay, database_url)
                owned[relay], busy[relay] = await relay.acquire(()), set()
                assert owned[relay] == NONE
        held = Counter(slot for one in relays for slot in owned[one] | busy[one])
        assert all(count == 1 for count in held.values()), held

    assert are_fair(await look(*relays))
