"""The inbox in partitions: what has expired goes as a whole, what is still needed is found, and nobody waits long."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from pydantic import ValidationError
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler
from mediator.errors import ClaimBusyError, SchemaError
from mediator.operations.cleaning import Cleaner, RetentionSettings
from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.parked import BLOCKED, DEAD, DISCARDED, RETRY
from mediator.storage.partitions import _found, _gaps, _make, _Range, tend_partitions
from mediator.storage.retention import purge_inbox
from mediator.storage.schema import create_schema, ddl, verify_schema
from tests.support import AppFactory, Effect, effects, module_of, quick_settings
from tests.support.databases import execute

pytestmark = pytest.mark.databases("postgresql", "psycopg")

DAY, MONTH = timedelta(days=1), timedelta(days=30)
BATCH = 5
OLD = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1_000)
WIDTH = 86_400_000
CONTENT = b"h" * 16


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        await create_schema(database)
        yield database


@asynccontextmanager
async def opened(url: str, *, partitioned_inbox: bool = True) -> AsyncIterator[Database]:
    database = Database(url, partitioned_inbox=partitioned_inbox)
    try:
        yield database
    finally:
        await database.close()


def id_at(moment: int) -> UUID:
    """A UUIDv7 of a millisecond."""
    return UUID(int=moment << 80 | 7 << 76 | uuid4().int & (1 << 76) - 1)


async def now_of(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(text("SELECT extract(epoch FROM now()) * 1000")) or 0)


async def ranges_of(database: Database) -> Sequence[_Range]:
    async with database.read() as connection:
        return (await _found(connection, database.tables))[0]


async def handled(database: Database, ids: Iterable[UUID], processed_at: int, subscriber_id: str = "mail.send") -> None:
    """Inbox rows, as if these events had been handled then."""
    rows = [
        {"subscriber_id": subscriber_id, "event_id": one, "payload_hash": CONTENT, "processed_at": processed_at}
        for one in ids
    ]
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.inbox), rows)


async def parked(database: Database, event_id: UUID, status: str, subscriber_id: str = "mail.send") -> None:
    values = {"subscriber_id": subscriber_id, "event_id": event_id, "status": status, "reason": "failed"}
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked), [{**values, "topic": "t", "headers": "", "body": b""}])


async def with_old_partition(database: Database, begin: int = OLD) -> list[UUID]:
    """A partition of a day that is long over, with rows that have expired."""
    ids = [id_at(begin + number) for number in range(3 * BATCH)]
    await _make(database, begin, begin + WIDTH, BATCH)
    await handled(database, ids, begin)
    return ids


async def tend(database: Database) -> int:
    return await tend_partitions(database, DAY, MONTH, BATCH)


async def claimed(database: Database, event_id: UUID, subscriber_id: str = "mail.send") -> Claim:
    while True:
        try:
            async with database.begin() as connection:
                return await InboxTable(database.tables).claim(connection, subscriber_id, (), event_id, CONTENT)
        except ClaimBusyError:
            await asyncio.sleep(0.01)


async def rows_by_partition(database: Database) -> dict[str, int]:
    inbox = database.tables.inbox
    place = text("tableoid::regclass::text")
    async with database.read() as connection:
        found = await connection.execute(select(place, func.count()).select_from(inbox).group_by(place))
        return {name.removeprefix("mediator_inbox_"): count for name, count in found}


async def test_there_is_a_partition_for_now_and_for_three_days_ahead(database: Database) -> None:
    await tend(database)
    now = await now_of(database)
    first, *_, last = ranges = await ranges_of(database)

    assert [one.end - one.begin for one in ranges] == [WIDTH] * 4
    assert [one.begin for one in ranges[1:]] == [one.end for one in ranges[:-1]]
    assert first.begin <= now < first.end
    assert last.name == f"mediator_inbox_{datetime.fromtimestamp(last.begin / 1000, UTC):%Y%m%d%H%M}"
    assert await claimed(database, id_at(now)) is Claim.TAKEN
    assert await rows_by_partition(database) == {first.name.removeprefix("mediator_inbox_"): 1}


async def test_cleaning_again_makes_no_partition_twice(database: Database) -> None:
    await tend(database)
    before = await ranges_of(database)
    await tend(database)

    assert await ranges_of(database) == before


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ([], [(100, 110), (110, 120), (120, 130), (130, 140)]),
        ([(100, 110), (110, 120)], [(120, 130), (130, 140)]),
        ([(90, 100), (120, 130)], [(100, 110), (110, 120), (130, 140)]),
        ([(100, 103)], [(103, 110), (110, 120), (120, 130), (130, 140)]),
        ([(104, 107)], [(100, 104), (107, 110), (110, 120), (120, 130), (130, 140)]),
        ([(70, 105), (105, 140)], []),
        ([(70, 170)], []),
    ],
    ids=["none", "some", "one later", "begun", "one in between", "wider ones", "far ahead"],
)
def test_only_what_is_missing_is_made(there: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> None:
    ranges = [_Range("public", "mine", *bounds) for bounds in there]

    assert list(_gaps(ranges, now=104, width=10)) == wanted


async def test_another_interval_takes_over_where_the_partitions_of_the_former_end(database: Database) -> None:
    await tend(database)
    await tend_partitions(database, timedelta(days=7), MONTH, BATCH)

    ranges = await ranges_of(database)
    assert [one.begin for one in ranges[1:]] == [one.end for one in ranges[:-1]]
    assert ranges[-1].end - ranges[-1].begin == 7 * WIDTH
    assert ranges[-1].end >= await now_of(database) + 3 * 7 * WIDTH


async def test_ids_that_are_no_uuid_v7_have_a_partition_of_their_own(database: Database) -> None:
    await tend(database)
    late = id_at(OLD)
    for event_id in (UUID("f81d4fae-7dec-41d0-a765-00a0c91e6bf6"), late):
        assert await claimed(database, event_id) is Claim.TAKEN
        assert await claimed(database, event_id) is Claim.DUPLICATE

    assert await rows_by_partition(database) == {"foreign": 1, "default": 1}


async def test_rows_that_came_before_their_partition_move_into_it(database: Database) -> None:
    now = await now_of(database)
    ids, late = [id_at(now), id_at(now)], id_at(OLD)
    for event_id in (*ids, late):
        assert await claimed(database, event_id) is Claim.TAKEN
    await tend(database)

    first = (await ranges_of(database))[0].name.removeprefix("mediator_inbox_")
    assert await rows_by_partition(database) == {first: 2, "default": 1}
    assert {await claimed(database, event_id) for event_id in (*ids, late)} == {Claim.DUPLICATE}


async def test_a_range_with_many_rows_in_the_default_partition_is_left_to_it(database: Database) -> None:
    now = await now_of(database)
    await handled(database, [id_at(now) for _ in range(BATCH + 1)], now)
    await tend(database)

    ranges = await ranges_of(database)
    assert len(ranges) == 3
    assert ranges[0].begin > now
    assert await rows_by_partition(database) == {"default": BATCH + 1}


async def test_a_partition_goes_when_all_its_rows_have_expired(database: Database) -> None:
    await with_old_partition(database)

    assert await tend(database) == 3 * BATCH
    assert all(one.begin > OLD for one in await ranges_of(database))
    assert await rows_by_partition(database) == {}


async def test_a_partition_stays_while_its_events_may_come_again(database: Database) -> None:
    now = await now_of(database)
    begin = now - now % WIDTH - 29 * WIDTH
    await _make(database, begin, begin + WIDTH, BATCH)
    await handled(database, [id_at(begin) for _ in range(BATCH)], begin)

    assert await tend(database) == 0
    assert begin in [one.begin for one in await ranges_of(database)]


async def test_rows_of_a_partition_that_is_about_to_be_emptied_are_left_for_that(database: Database) -> None:
    """Else nothing would be left that could go as a whole."""
    now = await now_of(database)
    for days in (30, 31):
        begin = now - now % WIDTH - days * WIDTH
        await _make(database, begin, begin + WIDTH, BATCH)
        await handled(database, [id_at(begin)], begin)
    await with_old_partition(database)
    await handled(database, [uuid4_foreign()], OLD)
    await handled(database, [id_at(OLD - WIDTH)], OLD)

    assert await purge_inbox(database, MONTH, 100) == 3 * BATCH + 2
    assert set((await rows_by_partition(database)).values()) == {1}
    assert len(await rows_by_partition(database)) == 2


def uuid4_foreign() -> UUID:
    return UUID(int=uuid4().int | 1 << 127)


async def test_an_event_that_was_handled_late_keeps_its_row_for_its_full_time(database: Database) -> None:
    await with_old_partition(database)
    late = id_at(OLD)
    await handled(database, [late], await now_of(database))

    assert await tend(database) == 3 * BATCH
    assert await claimed(database, late) is Claim.DUPLICATE
    assert await purge_inbox(database, MONTH, BATCH) == 0


@pytest.mark.parametrize("status", [RETRY, BLOCKED, DEAD, DISCARDED])
async def test_a_row_that_a_parked_delivery_needs_is_found_when_its_partition_has_gone(
    database: Database, status: str
) -> None:
    needed, other, *_ = await with_old_partition(database)
    await parked(database, needed, status)
    await parked(database, other, status, "mail.another")

    assert await tend(database) == 3 * BATCH - 1
    assert all(one.begin > OLD for one in await ranges_of(database))
    assert await rows_by_partition(database) == {"default": 1}
    assert await claimed(database, needed) is Claim.DUPLICATE
    assert await purge_inbox(database, MONTH, BATCH) == 0
    assert await claimed(database, other) is Claim.TAKEN


async def test_a_partition_with_more_rows_that_are_needed_than_a_batch_is_cleaned_in_batches(
    database: Database,
) -> None:
    ids = await with_old_partition(database)
    late = ids[: BATCH + 1]
    inbox = database.tables.inbox
    async with database.begin() as connection:
        young = update(inbox).where(inbox.c.event_id.in_(late)).values(processed_at=await now_of(database))
        await connection.execute(young)

    assert await tend(database) == 0
    assert await purge_inbox(database, MONTH, 100) == 3 * BATCH - len(late)
    assert await rows_by_partition(database) == {"202501010000": BATCH + 1}
    assert {await claimed(database, one) for one in late} == {Claim.DUPLICATE}


async def with_inbox_of_before(url: str, ids: Sequence[UUID]) -> None:
    """A table without partitions, with rows that have expired, made a partition as docs/how-to/partitions.md shows."""
    async with opened(url, partitioned_inbox=False) as before:
        await create_schema(before)
        await handled(before, ids, OLD)
    range_of_before = f"FROM ('{UUID(int=0)}') TO ('{UUID(int=OLD + WIDTH << 80)}')"
    async with opened(url) as database:
        for statement in (
            "ALTER TABLE mediator_inbox RENAME TO mediator_inbox_before",
            "ALTER INDEX mediator_inbox_processed RENAME TO mediator_inbox_before_processed",
            *(one for one in ddl(database).split(";\n") if "mediator_inbox" in one),
            f"ALTER TABLE mediator_inbox ATTACH PARTITION mediator_inbox_before FOR VALUES {range_of_before}",
        ):
            execute(url, statement)
        await verify_schema(database)


async def test_an_inbox_that_became_a_partition_goes_as_a_whole(database_url: str) -> None:
    ids = [id_at(OLD + number) for number in range(3 * BATCH)]
    await with_inbox_of_before(database_url, ids)
    async with opened(database_url) as database:
        await parked(database, ids[0], DEAD)

        assert await claimed(database, ids[1]) is Claim.DUPLICATE
        assert await tend(database) == 3 * BATCH - 1
        assert len(await ranges_of(database)) == 4
        assert await claimed(database, ids[0]) is Claim.DUPLICATE


async def test_an_inbox_that_became_a_partition_and_is_needed_is_cleaned_in_batches(database_url: str) -> None:
    ids = [id_at(OLD + number) for number in range(3 * BATCH)]
    await with_inbox_of_before(database_url, ids)
    async with opened(database_url) as database:
        for one in ids[: BATCH + 1]:
            await parked(database, one, DEAD)

        assert await tend(database) == 0
        assert await purge_inbox(database, MONTH, 100) == 2 * BATCH - 1
        assert await rows_by_partition(database) == {"before": BATCH + 1}


@pytest.mark.parametrize("partitioned_inbox", [True, False])
async def test_batches_may_be_as_large_as_the_settings_allow(database_url: str, *, partitioned_inbox: bool) -> None:
    """As a list of values, so many keys would take PostgreSQL minutes to plan."""
    batch = 10_000
    async with opened(database_url, partitioned_inbox=partitioned_inbox) as database, asyncio.timeout(60):
        await create_schema(database)
        await handled(database, [id_at(OLD + number) for number in range(batch + 1)], OLD)

        assert [await purge_inbox(database, MONTH, batch) for _ in range(3)] == [batch, 1, 0]


async def test_the_cleaner_of_an_application_does_all_of_it(database: Database) -> None:
    needed, *_ = await with_old_partition(database)
    await parked(database, needed, DEAD)
    await handled(database, [uuid4_foreign(), id_at(OLD - 1)], OLD)
    cleaner = Cleaner(database, RetentionSettings(inbox_partition=DAY, batch=BATCH))

    assert await cleaner.clean() == 3 * BATCH - 1 + 2
    assert await cleaner.clean() == 0
    assert await rows_by_partition(database) == {"default": 1}


async def test_a_claim_under_way_does_not_hinder_making_and_emptying(database: Database) -> None:
    await tend(database)
    await with_old_partition(database)
    async with database.writer.begin() as connection:
        now = await now_of(database)
        await InboxTable(database.tables).claim(connection, "mail.send", (), id_at(now), CONTENT)
        await tend_partitions(database, DAY * 2, MONTH, BATCH)

        assert (await ranges_of(database))[-1].end > now + 6 * WIDTH
        assert sum((await rows_by_partition(database)).values()) == 0


async def test_dropping_waits_for_no_handler_and_is_tried_again(database: Database) -> None:
    await tend(database)
    for begin in (OLD, OLD + WIDTH):
        await with_old_partition(database, begin)
    async with database.writer.begin() as connection, asyncio.timeout(20):
        now = await now_of(database)
        await InboxTable(database.tables).claim(connection, "mail.send", (), id_at(now), CONTENT)
        with capture_logs() as logs:
            tending = asyncio.create_task(tend(database))
            others = [await claimed(database, id_at(now)) for _ in range(20)]
            await tending

        assert others == [Claim.TAKEN] * 20
        [postponed] = [line for line in logs if line["event"] == "partition.postponed"]
        assert postponed["step"] == "drop"
        assert "lock timeout" in postponed["reason"]
        assert len(await ranges_of(database)) == 6
    await tend(database)
    assert len(await ranges_of(database)) == 4


async def test_an_empty_shell_is_dropped_by_a_later_cleaning_with_what_came_meanwhile(database: Database) -> None:
    await with_old_partition(database)
    async with database.writer.begin() as connection:
        await InboxTable(database.tables).claim(connection, "mail.send", (), uuid4_foreign(), CONTENT)
        await tend(database)
        late = id_at(OLD)
        assert await claimed(database, late) is Claim.TAKEN
    await tend(database)

    assert OLD not in [one.begin for one in await ranges_of(database)]
    assert await claimed(database, late) is Claim.DUPLICATE


async def test_two_processes_may_tend_at_once(database: Database, database_url: str) -> None:
    await with_old_partition(database)
    now = await now_of(database)
    waiting = [id_at(now) for _ in range(BATCH)]
    await handled(database, waiting, now)
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(opened(database_url)) for _ in range(4)]
        removed = await asyncio.gather(*(tend(one) for one in processes))

    assert sum(removed) == 3 * BATCH
    assert len(await ranges_of(database)) == 4
    assert {await claimed(database, one) for one in waiting} == {Claim.DUPLICATE}


async def test_each_event_is_claimed_once_while_partitions_come_and_go(database: Database, database_url: str) -> None:
    now = await now_of(database)
    days = [now - now % WIDTH - day * WIDTH for day in range(60, 50, -1)]
    for begin in days:
        await _make(database, begin, begin + WIDTH, BATCH)
        await handled(database, [id_at(begin) for _ in range(2 * BATCH)], begin)
    events = [id_at(begin + number) for number in range(4) for begin in (*days, now)]
    taken: list[UUID] = []

    async def deliver() -> None:
        async with opened(database_url) as other:
            taken.extend([one for one in events if await claimed(other, one) is Claim.TAKEN])

    async def clean() -> None:
        while not all(one.done() for one in deliveries):
            await tend(database)

    async with asyncio.timeout(60):
        deliveries = [asyncio.create_task(deliver()) for _ in range(3)]
        await asyncio.gather(clean(), *deliveries)
    await tend(database)

    assert sorted(taken) == sorted(events)
    assert {await claimed(database, one) for one in events} == {Claim.DUPLICATE}
    assert len(await ranges_of(database)) == 4


async def test_the_ddl_makes_what_create_makes(database: Database, database_url: str) -> None:
    async with opened(database_url) as other:
        other.tables = Database(database_url, prefix="other_", partitioned_inbox=True).tables
        for statement in ddl(other).split(";\n"):
            if statement.strip():
                execute(database_url, statement)
        await verify_schema(other)
    partitions = (
        "SELECT replace(inhrelid::regclass::text, '{0}', ''), pg_get_expr(relpartbound, oid) FROM pg_inherits"
        " JOIN pg_class ON oid = inhrelid WHERE inhparent = '{0}inbox'::regclass ORDER BY 1"
    )

    assert execute(database_url, partitions.format("other_")) == execute(database_url, partitions.format("mediator_"))
    assert len(execute(database_url, partitions.format("other_"))) == 2


async def test_a_start_needs_no_lock_that_claims_hold(database: Database) -> None:
    async with database.writer.begin() as connection, asyncio.timeout(20):
        await InboxTable(database.tables).claim(connection, "mail.send", (), uuid4_foreign(), CONTENT)
        await create_schema(database)
        await verify_schema(database)


async def test_partitions_are_in_the_schema_of_the_tables(database_url: str) -> None:
    database = Database(database_url, schema="bus", partitioned_inbox=True)
    try:
        await create_schema(database)
        await tend(database)
        await verify_schema(database)

        assert {one.schema for one in await ranges_of(database)} == {"bus"}
        assert execute(
            database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'bus' AND tablename ~ 'inbox_'"
        ) == [(6,)]
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("before", "after", "what", "fix"),
    [
        (False, True, "mediator_inbox is a table without partitions", "Leave RetentionSettings"),
        (True, False, "mediator_inbox is partitioned", "Set RetentionSettings"),
    ],
)
async def test_tables_that_do_not_fit_the_setting_are_refused(
    database_url: str, before: bool, after: bool, what: str, fix: str
) -> None:
    async with opened(database_url, partitioned_inbox=before) as database:
        await create_schema(database)
    async with opened(database_url, partitioned_inbox=after) as database:
        await create_schema(database)
        with pytest.raises(SchemaError, match=what) as refused:
            await verify_schema(database)

    assert refused.value.fix.startswith(fix)
    assert "docs/how-to/partitions.md" in refused.value.fix


async def test_an_inbox_that_somebody_partitioned_otherwise_is_refused(database: Database, database_url: str) -> None:
    execute(database_url, "DROP TABLE mediator_inbox")
    execute(
        database_url,
        "CREATE TABLE mediator_inbox (subscriber_id text, event_id uuid, payload_hash bytea, processed_at bigint)"
        " PARTITION BY HASH (event_id)",
    )

    with pytest.raises(SchemaError, match=r"partitioned by HASH \(event_id\)"):
        await verify_schema(database)


async def test_an_inbox_without_a_default_partition_is_refused(database: Database, database_url: str) -> None:
    execute(database_url, "DROP TABLE mediator_inbox_default")

    with pytest.raises(SchemaError, match="mediator_inbox has no default partition"):
        await verify_schema(database)
    await create_schema(database)
    await verify_schema(database)


@contextmanager
def new_user(database_url: str) -> Iterator[str]:
    """The URL of a user who may do to the rows what an application does, and nothing to the tables."""
    name = f"mediator_test_{uuid4().hex[:12]}"
    execute(database_url, f"CREATE ROLE {name} LOGIN PASSWORD 'test'")
    try:
        execute(database_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
        execute(database_url, "REVOKE ALL ON mediator_inbox_default, mediator_inbox_foreign FROM " + name)
        yield make_url(database_url).set(username=name, password="test").render_as_string(hide_password=False)
    finally:
        execute(database_url, f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        execute(database_url, f"DROP OWNED BY {name}")
        execute(database_url, f"DROP ROLE {name}")


async def test_a_user_who_does_not_own_the_inbox_is_told_and_cleans_in_batches(
    database: Database, database_url: str
) -> None:
    await handled(database, [id_at(OLD), uuid4_foreign()], OLD)
    with new_user(database_url) as url:
        async with opened(url) as limited:
            await verify_schema(limited)
            with capture_logs() as logs:
                assert await Cleaner(limited, RetentionSettings(inbox_partition=DAY)).clean() == 2

    told = [line for line in logs if line["event"] == "partition.not_allowed"]
    assert told
    assert all(line["log_level"] == "warning" and "own the inbox" in line["fix"] for line in told)
    assert await ranges_of(database) == []


async def test_others_claim_in_partitions_that_the_owner_made(database: Database, database_url: str) -> None:
    await with_old_partition(database)
    with new_user(database_url) as url:
        await tend(database)
        async with opened(url) as limited:
            now = await now_of(database)
            for event_id in (id_at(now), id_at(now + WIDTH), id_at(OLD), uuid4_foreign()):
                assert await claimed(limited, event_id) is Claim.TAKEN
                assert await claimed(limited, event_id) is Claim.DUPLICATE


@event_topic("orders", domain="shop")
class OrderPlacedV1(IntegrationEvent):
    """Something to handle."""

    number: int


class Remember(IntegrationEventHandler[OrderPlacedV1]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, event: OrderPlacedV1) -> None:
        self.session.add(Effect(what="order", detail=str(event.number)))


@pytest.mark.databases("sqlite", "postgresql", "psycopg", "mariadb")
async def test_an_application_works_with_the_setting_on_every_database(make_app: AppFactory, database_url: str) -> None:
    settings = quick_settings(retention={"inbox_partition": DAY})
    async with make_app(module_of("mail", Remember), settings=settings, schema="create") as app:
        events = [OrderPlacedV1(number=number) for number in range(3)]
        for _ in range(2):
            await app.publish_in_own_transaction(*events)
            await app.drained()
        await app.clean()
        await app.publish_in_own_transaction(*events)
        await app.drained()

        assert sorted(await effects(app)) == [("order", "0"), ("order", "1"), ("order", "2")]
        assert app.counters.total("duplicate_skipped", "mail.remember") == 6
    if "postgresql" in database_url:
        partitions = execute(
            database_url, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'mediator_inbox'::regclass"
        )
        assert partitions == [(6,)]


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(minutes=59), timedelta(days=367)])
@pytest.mark.databases("sqlite")
def test_an_interval_out_of_bounds_is_refused(wrong: timedelta) -> None:
    with pytest.raises(ValidationError, match="inbox_partition"):
        RetentionSettings(inbox_partition=wrong)
