"""Columns mean the same on every database: moments, ids, texts, and the clock that decides what is due."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Dialect, insert, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from mediator.storage.columns import EventId, Moment, database_now, milliseconds, storable
from mediator.storage.database import Database
from tests.storage.drivers import EVERY_DRIVER, ON_SERVERS

SQLITE, MYSQL, POSTGRESQL = sqlite.dialect(), mysql.dialect(), postgresql.dialect()  # type: ignore[no-untyped-call]
PARKED = {"subscriber_id": "s", "status": "retry", "reason": "failed", "topic": "t", "headers": "{}"}


async def put(database: Database, **values: Any) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(database.tables.parked).values(PARKED | {"event_id": uuid4()} | values))


async def get(database: Database, column: str) -> Any:
    async with database.read() as connection:
        return await connection.scalar(select(database.tables.parked.c[column]))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_to_the_millisecond(moment: datetime) -> None:
    stored = Moment().process_bind_param(moment, SQLITE)

    found = Moment().process_result_value(stored, SQLITE)
    assert isinstance(stored, int)
    assert found is not None
    assert abs(found - moment) < timedelta(milliseconds=1)
    assert found.tzinfo is UTC


def test_moments_of_other_zones_are_the_same_moments() -> None:
    east = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))

    assert Moment().process_bind_param(east, SQLITE) == Moment().process_bind_param(east.astimezone(UTC), SQLITE)
    assert Moment().process_bind_param(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), SQLITE) == 1_000
    assert Moment().process_bind_param(None, SQLITE) is None
    assert Moment().process_result_value(None, SQLITE) is None


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        Moment().process_bind_param(datetime(2026, 1, 31), SQLITE)  # noqa: DTZ001


@given(st.uuids(), st.sampled_from([SQLITE, MYSQL]))
def test_an_event_id_takes_sixteen_bytes_and_comes_back(identity: UUID, dialect: Dialect) -> None:
    stored = EventId().process_bind_param(identity, dialect)

    assert stored == identity.bytes
    assert EventId().process_result_value(stored, dialect) == identity


@given(st.uuids())
def test_postgresql_has_a_type_for_event_ids(identity: UUID) -> None:
    assert EventId().process_bind_param(identity, POSTGRESQL) is identity
    assert EventId().process_result_value(identity, POSTGRESQL) is identity


@EVERY_DRIVER
@pytest.mark.parametrize("identity", [UUID(int=0), UUID(int=2**128 - 1), UUID("0192d7a1-0000-7000-8000-0000000a0d27")])
async def test_an_event_id_is_stored_as_it_is(database: Database, identity: UUID) -> None:
    await put(database, event_id=identity, body=b"")

    assert await get(database, "event_id") == identity


@EVERY_DRIVER
async def test_a_moment_is_stored_as_it_is(database: Database) -> None:
    moment = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    await put(database, next_attempt_at=moment, body=b"")

    assert await get(database, "next_attempt_at") == moment


@EVERY_DRIVER
async def test_bytes_and_texts_of_a_megabyte_are_stored_as_they_are(database: Database) -> None:
    body, headers = bytes(range(256)) * 4_096, "é€🎉x" * 100_000
    await put(database, body=body, headers=headers)

    assert bytes(await get(database, "body")) == body
    assert await get(database, "headers") == headers


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_every_database_stores_stays_as_it_is(harmless: str) -> None:
    assert storable(harmless) == harmless


@given(st.text(st.characters(categories=["Cs", "Cc", "Lu"])))
@example("\0\ud800")
def test_what_some_database_refuses_is_written_another_way(strange: str) -> None:
    written = storable(strange)

    assert "\0" not in written
    assert written.encode().decode() == written
    assert storable(written) == written


@EVERY_DRIVER
async def test_a_storable_text_is_stored_as_it_is(database: Database) -> None:
    written = storable("nul \0, half a pair \udc80, the last one \U0010ffff, \\x00, 'quoted' \"twice\" \r\n%s :name")
    await put(database, error=written, body=b"")

    assert await get(database, "error") == written


@ON_SERVERS
async def test_half_a_pair_would_be_refused(database: Database) -> None:
    with pytest.raises((DBAPIError, UnicodeEncodeError)):
        await put(database, error="half a pair \udc80", body=b"")


@pytest.mark.databases("postgresql", "psycopg")
async def test_nul_would_be_refused(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await put(database, error="nul \0", body=b"")


@EVERY_DRIVER
async def test_the_databases_clock_is_in_milliseconds(database: Database) -> None:
    before = datetime.now(UTC)
    async with database.read() as connection:
        now = await connection.scalar(select(database_now()))
    after = datetime.now(UTC)

    # The clock of SQLite counts milliseconds.
    tick = timedelta(milliseconds=2)
    assert now is not None
    found = Moment().process_result_value(now, SQLITE)
    assert found is not None
    assert before - tick <= found <= after + tick


@EVERY_DRIVER
async def test_the_databases_clock_goes_on_inside_a_transaction(database: Database) -> None:
    async with database.begin() as connection:
        before = await connection.scalar(select(database_now()))
        await asyncio.sleep(0.02)
        after = await connection.scalar(select(database_now()))

    assert before is not None
    assert after is not None
    assert after - before >= 15


@ON_SERVERS
async def test_the_databases_clock_knows_no_zones(database: Database) -> None:
    zone = "SET TIME ZONE" if database.dialect == "postgresql" else "SET time_zone ="
    found: list[int] = []
    async with database.begin() as connection:
        for offset in ("-12:00", "+13:00"):
            await connection.execute(text(f"{zone} '{offset}'"))
            found.append(await connection.scalar(select(database_now())) or 0)

    assert 0 <= found[1] - found[0] < 60_000


@pytest.mark.parametrize(
    ("duration", "count"),
    [
        (timedelta(0), 0),
        (timedelta(seconds=1.5), 1_500),
        (timedelta(microseconds=1_600), 2),
        (-timedelta(days=1), -86_400_000),
    ],
)
def test_durations_are_counted_in_milliseconds(duration: timedelta, count: int) -> None:
    assert milliseconds(duration) == count
