"""Whether anything becomes slower as tables grow: fetching from a long outbox, claiming in a large inbox."""

from collections.abc import Sequence

from sqlalchemy import text
from uuid_utils.compat import uuid7

from mediator.storage.database import Database
from mediator.storage.inbox import InboxTable
from mediator.storage.outbox import SLOTS, OutboxTable
from tests.benchmarks.measuring import Goal, Scale, Table, Way, measure
from tests.benchmarks.places import Place, on_each

__all__ = ["claiming", "fetching", "fill_inbox", "fill_outbox"]

CHUNK = 100_000
CLAIMS = 20
_SERIES = {
    "postgresql": "SELECT generate_series({first}, {last}) AS n",
    "mysql": "SELECT seq AS n FROM seq_{first}_to_{last}",
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s",
}
# The first 48 bits of an id are milliseconds: one for each row, up to now.
_V7 = {
    "postgresql": (
        "(lpad(to_hex({start} + n), 12, '0') || '7' || substr(md5(n::text), 1, 3)"
        " || '8' || substr(md5(n::text), 4, 15))::uuid"
    ),
    "mysql": ("UNHEX(CONCAT(LPAD(HEX({start} + n), 12, '0'), '7', SUBSTR(MD5(n), 1, 3), '8', SUBSTR(MD5(n), 4, 15)))"),
    "sqlite": "CAST(printf('%016x', {start} + n) AS BLOB)",
}
_BLOB = {"postgresql": "decode(repeat('7b', {}), 'hex')", "mysql": "REPEAT('{{', {})", "sqlite": "zeroblob({})"}


async def fetching(scale: Scale) -> Sequence[Table]:
    """A batch out of many rows, and out of few."""
    return await on_each(["postgresql", "mariadb", "sqlite"], _fetching, scale)


async def claiming(scale: Scale) -> Sequence[Table]:
    """Taking charge of a new event when many were handled before, and none."""
    return await on_each(["postgresql", "mariadb"], _claiming, scale)


async def _fetching(place: Place, scale: Scale) -> Sequence[Table]:
    few, many = scale.rows(10_000, 10_000), scale.rows(100_000, 1_000_000)
    databases = {few: await place.database("few_"), many: await place.database("many_")}
    ways: dict[str, Way] = {}
    for rows, database in databases.items():
        await fill_outbox(database, rows)
        ways[f"of {rows:,} pending rows"] = _fetch_again_and_again(OutboxTable(database))
    base, way = ways
    goals = [Goal(f"{way}, to {base}: wall", way, base, "wall", 1.5)]
    try:
        return [await measure(f"Fetching 500 rows of a slot, on {place.title}", ways, 64, scale, goals=goals)]
    finally:
        for database in databases.values():
            await database.close()


def _fetch_again_and_again(outbox: OutboxTable) -> Way:
    async def way(times: int) -> None:
        for number in range(times):
            await outbox.fetch(number % SLOTS, 500, without=[], without_keys=[])

    return way


async def _claiming(place: Place, scale: Scale) -> Sequence[Table]:
    rows = scale.rows(100_000, 10_000_000)
    databases = {"of none": await place.database("empty_"), f"of {rows:,} known events": await place.database("full_")}
    await fill_inbox(databases[f"of {rows:,} known events"], rows)
    ways = {name: _claim_again_and_again(database) for name, database in databases.items()}
    base, way = ways
    goals = [Goal(f"{way}, to {base}: wall", way, base, "wall", 1.3)]
    title = f"Claiming an event in the inbox, {CLAIMS} in a transaction, on {place.title}"
    try:
        return [await measure(title, ways, 1_000, scale, goals=goals)]
    finally:
        for database in databases.values():
            await database.close()


def _claim_again_and_again(database: Database) -> Way:
    inbox = InboxTable(database.tables)

    async def way(times: int) -> None:
        for _ in range(0, times, CLAIMS):
            async with database.begin() as connection:
                for _ in range(min(times, CLAIMS)):
                    await inbox.claim(connection, "shop.mail.welcome", [], uuid7(), b"0" * 16)

    return way


async def fill_outbox(database: Database, rows: int) -> None:
    """Pending rows, evenly in all slots, of a thousand keys."""
    dialect = _dialect(database)
    known: dict[str, str] = {
        "slot": f"n % {SLOTS}",
        "event_id": _V7[dialect].format(start=1_700_000_000_000),
        "topic": "'test.bank.public.openings.v1'",
        "type": "'bank.opened'",
        "version": "'v1'",
        "partition_key": "CONCAT('key-', n % 1000)" if dialect != "sqlite" else "'key-' || (n % 1000)",
        "body": _BLOB[dialect].format(300),
        "headers": "'{}'",
        "source": "'/bench/bank'",
        "occurred_on": "1700000000000",
        "attempts": "0",
        "correlation_id": "'c'",
        "causation_id": "'d'",
        "module": "'bank'",
        "cause": "'OpenAccount'",
    }
    await _fill(database, database.tables.outbox.fullname, known, rows)


async def fill_inbox(database: Database, rows: int) -> None:
    """Events that one subscriber handled, one in a millisecond."""
    known = {
        "subscriber_id": "'shop.mail.welcome'",
        "event_id": _V7[_dialect(database)].format(start=1_600_000_000_000),
        "payload_hash": _BLOB[_dialect(database)].format(16),
        "processed_at": "1600000000000 + n",
    }
    await _fill(database, database.tables.inbox.fullname, known, rows)


async def _fill(database: Database, table: str, columns: dict[str, str], rows: int) -> None:
    names, values = ", ".join(columns), ", ".join(columns.values())
    for first in range(1, rows + 1, CHUNK):
        series = _SERIES[_dialect(database)].format(first=first, last=min(first + CHUNK - 1, rows))
        async with database.begin() as connection:
            await connection.execute(text(f"INSERT INTO {table} ({names}) SELECT {values} FROM ({series}) AS s"))
    if database.dialect == "postgresql":
        async with database.dedicated() as connection:
            await connection.execute(text(f"VACUUM ANALYZE {table}"))


def _dialect(database: Database) -> str:
    return "mysql" if database.dialect == "mariadb" else database.dialect
