"""The ledger's own tables: the writers' truth, and what handlers wrote down.

No constraint keeps a booking from being written twice: that is the toolkit's promise, and the judge's question.
Whoever writes to an account locks its row first, as writers that want an order have to; so positions of one account are
in the order of commits.
"""

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, insert

from mediator import AggregateRoot
from mediator.storage.database import Database
from mediator.storage.schema import create_schema
from tests.ledger.amounts import is_refused
from tests.ledger.events import MoneyMoved, TransferBooked
from tests.support.databases import in_a_thread

__all__ = [
    "ACCOUNTS",
    "ON_ACCOUNTS",
    "ON_TRANSFERS",
    "SUBSCRIBERS",
    "Account",
    "Balance",
    "Booking",
    "Transfer",
    "prepare",
]

ACCOUNTS = ("ada", "bob", "cyd", *(f"account-{number}" for number in range(20)))
"""So many that every relay of a team has some."""

ON_TRANSFERS = (
    "books.apply",
    "books.audit",
    "books.cascade",
    "books.flaky",
    "books.slow",
    "books.strict",
    "reporting.audit",
)
ON_ACCOUNTS = ("books.count-touched",)
SUBSCRIBERS = (*ON_TRANSFERS, *ON_ACCOUNTS)


class _Rows(SQLModel, registry=registry()):
    """Base of the ledger's tables, with a MetaData of their own."""


class Account(AggregateRoot, _Rows, table=True):
    """An account as its owner sees it."""

    __tablename__ = "accounts"
    id: str = Field(primary_key=True, max_length=40)
    balance: int = 0
    seq: int = 0

    def move(self, transfer_id: str, amount: int) -> "Transfer":
        """Add `amount`; the account's moves are numbered."""
        self.balance += amount
        self.seq += 1
        self.record_event(MoneyMoved(transfer_id, self.id, self.seq, amount))
        if is_refused(amount):
            self.record_event(TransferBooked(amount))
        return Transfer(id=transfer_id, account=self.id, seq=self.seq, amount=amount)


class Transfer(_Rows, table=True):
    """A transfer that was committed."""

    __tablename__ = "transfers"
    position: int | None = Field(default=None, primary_key=True)
    id: str = Field(max_length=40)
    account: str = Field(max_length=40)
    seq: int
    amount: int


class Booking(_Rows, table=True):
    """What one handler did for one event."""

    __tablename__ = "bookings"
    position: int | None = Field(default=None, primary_key=True)
    subscriber: str = Field(max_length=100)
    event_id: str = Field(max_length=36)
    transfer_id: str = Field(max_length=40)
    account: str = Field(max_length=40)
    seq: int
    amount: int
    attempt: int


class Balance(_Rows, table=True):
    """An account as a handler sees it."""

    __tablename__ = "balances"
    subscriber: str = Field(primary_key=True, max_length=100)
    account: str = Field(primary_key=True, max_length=40)
    balance: int = 0
    seq: int = 0


def prepare(url: str) -> None:
    """Make the tables, the toolkit's among them, and open the accounts."""
    in_a_thread(_prepare(url))


async def _prepare(url: str) -> None:
    toolkit = Database(url)
    await create_schema(toolkit)
    await toolkit.close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(_Rows.metadata.create_all)
        await connection.execute(insert(Account), [{"id": account} for account in ACCOUNTS])
        seen = [{"subscriber": subscriber, "account": account} for subscriber in SUBSCRIBERS for account in ACCOUNTS]
        await connection.execute(insert(Balance), seen)
    await engine.dispose()
