"""Column types and expressions that mean the same on every database.

Moments are stored as milliseconds since 1970 (UTC) in a BIGINT: `DATETIME` differs between databases in zone and
precision, and sums of moments and delays stay plain arithmetic. Event ids take 16 bytes, natively or as BINARY.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

__all__ = ["EventId", "Moment", "Position", "database_now", "milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Position = BigInteger().with_variant(Integer(), "sqlite")
"""A row's place in the order of insertion. SQLite numbers rows by itself only in a column of type INTEGER."""


class Moment(TypeDecorator[datetime]):
    """A moment: aware, UTC, to the millisecond."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> int | None:
        """Milliseconds; numbers that are milliseconds already pass."""
        return milliseconds(value - _EPOCH) if isinstance(value, datetime) else value

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        """An aware datetime."""
        return None if value is None else _EPOCH + timedelta(milliseconds=value)


class EventId(TypeDecorator[UUID]):
    """A UUID, natively where the database has the type and as 16 bytes elsewhere."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """PostgreSQL has the type."""
        return dialect.type_descriptor(Uuid() if dialect.name == "postgresql" else LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Bytes, or the UUID itself."""
        return value if value is None or dialect.name == "postgresql" else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """A standard library UUID."""
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]
        return UUID(bytes=bytes(value))


def milliseconds(duration: timedelta) -> int:
    """A duration as the database counts."""
    return round(duration / timedelta(milliseconds=1))


class database_now(FunctionElement[int]):  # noqa: N801 - an SQL function, written like one
    """The database's clock, in milliseconds since 1970: processes do not agree on theirs."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; a Julian day as a double is exact to a twentieth of a millisecond.
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"
