from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from mediator.storage.columns import EventId, Moment, database_now, milliseconds
from mediator.storage.database import Database

SQLITE, POSTGRESQL = sqlite.dialect(), postgresql.dialect()  # type: ignore[no-untyped-call]


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


@given(st.uuids())
def test_an_event_id_takes_sixteen_bytes_and_comes_back(identity: UUID) -> None:
    stored = EventId().process_bind_param(identity, SQLITE)

    assert stored == identity.bytes
    assert EventId().process_result_value(stored, SQLITE) == identity
    assert EventId().process_bind_param(identity, POSTGRESQL) is identity


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
