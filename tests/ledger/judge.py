"""The judge: compares the writers' truth with what was published and what was written down, account by account.

It reads tables and nothing else of the toolkit, at one moment, so that it may look while processes are at work. Some
rules hold at every moment, whatever was killed when; those on what has to have happened hold once nothing is pending.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, RowMapping, Select, Table, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mediator.storage.tables import Tables
from tests.ledger.amounts import hesitates, is_doomed
from tests.ledger.journal import Intent, read_journal
from tests.ledger.tables import ON_TRANSFERS, SUBSCRIBERS, Account, Balance, Booking, Transfer
from tests.support.databases import in_a_thread

__all__ = ["Violation", "judge", "left_over"]

ORDERED = ("books.apply", "books.flaky")
_TELLING = (
    "subscriber_id",
    "status",
    "reason",
    "attempts",
    "next_attempt_at",
    "parked_at",
    "occurred_on",
    "slot",
    "position",
    "partition_key",
    "event_id",
    "last_error",
    "error",
)
_TYPE_OF_TRANSFERS, _TYPE_OF_ACCOUNTS = "payments.money-moved", "books.account-touched"


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which, and how."""

    promise: str
    what: str


@dataclass(frozen=True)
class _Found:
    """What the database and the journal hold."""

    intents: dict[Intent, str]
    accounts: Sequence[RowMapping]
    transfers: Sequence[RowMapping]
    bookings: Sequence[RowMapping]
    balances: Sequence[RowMapping]
    published: list[tuple[str, str, dict[str, Any]]]
    """Type, event id and data of everything in the outbox or in its history."""
    inbox: set[tuple[str, str]]
    dead: list[tuple[str, str, dict[str, Any]]]
    """Subscriber, event id and data."""
    pending: list[str]


def judge(folder: Path, url: str, *, quiet: bool, healed: bool = False, forgery: str | None = None) -> list[Violation]:
    """Every broken promise; `quiet` when nothing is pending, `healed` when the dead were replayed.

    A forgery is a statement that changes what the judge sees, and nothing else.
    """
    # What was told before the look at the tables has to be in them; what is in them was intended by the time after.
    told = read_journal(folder)
    found = in_a_thread(_read(url, forgery))
    intents = {intent: told.get(intent, "intended") for intent in read_journal(folder)}
    return _judged(_Found(intents=intents, **found), quiet=quiet, healed=healed)


def _judged(found: _Found, *, quiet: bool, healed: bool) -> list[Violation]:
    rules = [_writers, _ghosts, _published, _once, _unaltered, _order, _balances, _timeouts, _claims]
    violations = [violation for rule in rules for violation in rule(found)]
    if quiet:
        violations += [*_quiet(found), *_complete(found, healed=healed)]
    return violations


def left_over(url: str) -> list[str]:
    """What waits in outbox and retries, for a person who wonders why."""
    return in_a_thread(_left_over(url))


async def _left_over(url: str) -> list[str]:
    toolkit = _toolkit(url)
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        waiting = await _all(connection, select(toolkit.outbox))
        parked = await _all(connection, select(toolkit.parked).where(toolkit.parked.c.status != "dead"))
    return [_told(row) for row in (*waiting, *parked)]


def _told(row: RowMapping) -> str:
    return ", ".join(f"{name}={row[name]}" for name in _TELLING if row.get(name) is not None)


async def _read(url: str, forgery: str | None) -> dict[str, Any]:
    toolkit = _toolkit(url)
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN")
        else:
            await connection.execution_options(isolation_level="REPEATABLE READ")
        if forgery is not None:
            assert (await connection.execute(text(forgery))).rowcount > 0
        waiting, sent = [await _all(connection, _events(table)) for table in (toolkit.outbox, toolkit.sent)]
        parked = await _all(connection, select(toolkit.parked))
        inbox = await _all(connection, select(toolkit.inbox))
        return {
            "accounts": await _all(connection, _rows_of(Account)),
            "transfers": await _all(connection, _rows_of(Transfer)),
            "bookings": await _all(connection, _rows_of(Booking)),
            "balances": await _all(connection, _rows_of(Balance)),
            "published": [(row["type"], str(row["event_id"]), json.loads(row["body"])) for row in (*waiting, *sent)],
            "inbox": {(row["subscriber_id"], str(row["event_id"])) for row in inbox},
            "dead": [
                (row["subscriber_id"], str(row["event_id"]), json.loads(row["body"]))
                for row in parked
                if row["status"] == "dead"
            ],
            "pending": [_told(row) for row in (*waiting, *parked) if row.get("status") in {None, "retry", "blocked"}],
        }


def _toolkit(url: str) -> Tables:
    return Tables(dialect=make_url(url).get_backend_name())


def _events(table: Table) -> Select[Any]:
    return select(table.c.type, table.c.event_id, table.c.body)


def _rows_of(model: Any) -> Select[Any]:
    table = model.__table__
    return select(table).order_by(*table.primary_key)


async def _all(connection: AsyncConnection, query: Select[Any]) -> Sequence[RowMapping]:
    rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    return rows


def _writers(found: _Found) -> Iterator[Violation]:
    """What the writers were told is what their tables hold."""
    committed = Counter(row["id"] for row in found.transfers)
    for intent, told in found.intents.items():
        times = committed.pop(intent.transfer_id, 0)
        if told == "acked" and times != 1:
            yield Violation("acknowledged", f"{intent} was acknowledged and is there {times} times")
        if told == "failed" and times:
            yield Violation("rolled back", f"{intent} was rolled back and is there")
        if times > 1:
            yield Violation("acknowledged", f"{intent} is there {times} times")
    for transfer_id in committed:
        yield Violation("acknowledged", f"nobody intended {transfer_id}")
    for account in found.accounts:
        moves = [row for row in found.transfers if row["account"] == account["id"]]
        if [row["seq"] for row in moves] != list(range(1, account["seq"] + 1)):
            yield Violation("acknowledged", f"the moves of {account['id']} are not numbered 1 to {account['seq']}")
        if account["balance"] != sum(row["amount"] for row in moves):
            yield Violation("acknowledged", f"the balance of {account['id']} is not the sum of its moves")


def _ghosts(found: _Found) -> Iterator[Violation]:
    """Nothing is published, written down or dead that was not committed."""
    committed = {row["id"] for row in found.transfers}
    cascaded = {row["transfer_id"] for row in found.bookings if row["subscriber"] == "books.cascade"}
    for type_, event_id, data in found.published:
        if data["transfer_id"] not in (committed if type_ == _TYPE_OF_TRANSFERS else cascaded):
            yield Violation("ghost", f"{type_} {event_id} was published, {data['transfer_id']} was not committed")
    for booking in found.bookings:
        if booking["transfer_id"] not in (committed if booking["subscriber"] in ON_TRANSFERS else cascaded):
            yield Violation("ghost", f"{dict(booking)} has nothing that it comes from")
    for subscriber, event_id, data in found.dead:
        if data["transfer_id"] not in committed:
            yield Violation("ghost", f"{event_id} died at {subscriber}, its transfer was not committed")


def _published(found: _Found) -> Iterator[Violation]:
    """What was committed has its event in the outbox or in the history, once."""
    events = Counter((type_, data["transfer_id"]) for type_, _, data in found.published)
    expected = [(_TYPE_OF_TRANSFERS, row["id"]) for row in found.transfers]
    expected += [
        (_TYPE_OF_ACCOUNTS, row["transfer_id"]) for row in found.bookings if row["subscriber"] == "books.cascade"
    ]
    for name in expected:
        if events[name] != 1:
            yield Violation("published", f"{name} is {events[name]} times in outbox and history")


def _once(found: _Found) -> Iterator[Violation]:
    """Each subscriber booked each transfer at most once."""
    for kind in ("transfer_id", "event_id"):
        for (subscriber, identity), times in Counter((row["subscriber"], row[kind]) for row in found.bookings).items():
            if times > 1:
                yield Violation("once", f"{subscriber} booked {kind} {identity} {times} times")


def _unaltered(found: _Found) -> Iterator[Violation]:
    """What was booked is what was committed."""
    truth = {row["id"]: (row["account"], row["seq"], row["amount"]) for row in found.transfers}
    told = [(f"{type_} {event_id}", data) for type_, event_id, data in found.published]
    told += [(f"booking of {row['subscriber']}", dict(row)) for row in found.bookings]
    for what, data in told:
        values = (data["account"], data["seq"], data["amount"])
        if values != truth.get(data["transfer_id"], values):
            yield Violation("unaltered", f"{what} says {values} of {data['transfer_id']}")


def _order(found: _Found) -> Iterator[Violation]:
    """Those who ask for it saw each account's moves in the order of their commits."""
    for subscriber in ORDERED:
        for account in found.accounts:
            seen = [
                row["seq"]
                for row in found.bookings
                if (row["subscriber"], row["account"]) == (subscriber, account["id"])
            ]
            if seen != sorted(seen):
                yield Violation("order", f"{subscriber} saw the moves of {account['id']} as {seen}")


def _balances(found: _Found) -> Iterator[Violation]:
    """A handler's own sum for an account is the sum of what it booked."""
    booked: Counter[tuple[str, str]] = Counter()
    for row in found.bookings:
        booked[row["subscriber"], row["account"]] += row["amount"]
    told = {(row["subscriber"], row["account"]): row["balance"] for row in found.balances}
    for name in booked.keys() | told.keys():
        if booked[name] != told.get(name):
            yield Violation("balance", f"{name} has {told.get(name)}, its bookings make {booked[name]}")


def _timeouts(found: _Found) -> Iterator[Violation]:
    """An attempt that outlived its timeout left nothing."""
    for row in found.bookings:
        if row["subscriber"] == "books.slow" and hesitates(row["amount"]) and row["attempt"] == 1:
            yield Violation("timeout", f"the attempt that timed out on {row['transfer_id']} was committed")


def _claims(found: _Found) -> Iterator[Violation]:
    """Whoever booked an event has it in the inbox: claim and effect are one transaction."""
    for row in found.bookings:
        if (row["subscriber"], row["event_id"]) not in found.inbox:
            yield Violation("claim", f"{row['subscriber']} booked {row['event_id']} without an inbox row")


def _quiet(found: _Found) -> Iterator[Violation]:
    if found.pending:
        yield Violation("quiet", f"{len(found.pending)} rows are left in outbox and retries, first {found.pending[0]}")


def _complete(found: _Found, *, healed: bool) -> Iterator[Violation]:
    """Everybody booked everything, but what is dead, and only that is dead which has to be."""
    booked = {(row["subscriber"], row["transfer_id"]) for row in found.bookings}
    dead = Counter((subscriber, data["transfer_id"]) for subscriber, _, data in found.dead)
    for row in found.transfers:
        for subscriber in SUBSCRIBERS:
            name = (subscriber, row["id"])
            # A process that was healed may have booked what another one could not.
            doomed = subscriber == "books.strict" and is_doomed(row["amount"]) and not healed and name not in booked
            died = dead.pop(name, 0)
            if died != int(doomed):
                yield Violation("dead", f"{name} is a dead letter {died} times")
            elif not doomed and name not in booked:
                yield Violation("lost", f"{subscriber} never booked {row['id']}")
    for name, times in dead.items():
        yield Violation("dead", f"{name} is a dead letter {times} times")
