"""Column types and expressions that mean the same on every database.

Moments are stored as milliseconds since 1970 (UTC) in a BIGINT: `DATETIME` differs between databases in zone and
precision, and sums of moments and delays stay plain arithmetic. Event ids take 16 bytes, natively or as BINARY.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Dialect,
    Integer,
    LargeBinary,
    String,
    Text,
    Uuid,
    all_,
    any_,
    bindparam,
    type_coerce,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

__all__ = [
    "MYSQL",
    "MYSQL_NOW",
    "NOW",
    "Bytes",
    "EventId",
    "Hash",
    "LongText",
    "Moment",
    "Position",
    "database_now",
    "milliseconds",
    "none_of",
    "one_of",
    "storable",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Position = BigInteger().with_variant(Integer(), "sqlite")
"""A row's place in the order of insertion. SQLite numbers rows by itself only in a column of type INTEGER."""

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's names of one family of databases."""

# What MySQL calls TEXT and BLOB ends at 64 KiB.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), *MYSQL)
Bytes = LargeBinary().with_variant(mysql.MEDIUMBLOB(), *MYSQL)
Hash = LargeBinary(16).with_variant(mysql.BINARY(16), *MYSQL)


# Not UNIX_TIMESTAMP(NOW(3)): in the session's time zone an hour happens twice a year.
MYSQL_NOW = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"


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
        """PostgreSQL has the type; in MySQL only BINARY can be a key."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Uuid())
        return dialect.type_descriptor(mysql.BINARY(16) if dialect.name in MYSQL else LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Bytes, or the UUID itself."""
        return value if value is None or dialect.name == "postgresql" else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """A standard library UUID."""
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]
        return UUID(bytes=bytes(value))


def storable(text: str) -> str:
    """A text that every database stores: not all of them take NUL, and none takes lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


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


# The moment at which the statement began: a function that changes while it runs could not be looked up in an index.
@compiles(database_now, "postgresql")
def _postgresql_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(database_now, *MYSQL)
def _mysql_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return MYSQL_NOW


NOW = type_coerce(database_now(), Moment()).label("now")
"""The database's clock, as a moment."""


def one_of(column: ColumnElement[Any], parameter: str, dialect: str) -> ColumnElement[bool]:
    """Whether `column` is in the list bound as `parameter`: on PostgreSQL as one array, so that the statement's text,
    and with it the prepared statement, is the same for every length.
    """
    if dialect == "postgresql":
        return column == any_(bindparam(parameter, type_=_array_of(column)))
    return column.in_(bindparam(parameter, expanding=True))


def none_of(column: ColumnElement[Any], parameter: str, dialect: str) -> ColumnElement[bool]:
    """Whether `column` is not in the list bound as `parameter`."""
    if dialect == "postgresql":
        return column != all_(bindparam(parameter, type_=_array_of(column)))
    return column.not_in(bindparam(parameter, expanding=True))


def _array_of(column: ColumnElement[Any]) -> ARRAY[Any]:
    return ARRAY(String() if isinstance(column.type, String) else BigInteger())
