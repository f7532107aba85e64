"""The ledger's own tables: the writers' truth, and what handlers wrote down.

No constraint keeps a booking from being written twice: that is the toolkit's promise, and the judge's question.
"""

from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel

from mediator import AggregateRoot
from tests.ledger.amounts import is_refused
from tests.ledger.events import MoneyMoved, TransferBooked

__all__ = ["ACCOUNTS", "Account", "Balance", "Booking", "Transfer", "database_of", "prepare"]

ACCOUNTS = ("ada", "bob", "cyd")


class _Rows(SQLModel, registry=registry()):
    """Base of the ledger's tables, with a MetaData of their own."""


class Account(AggregateRoot, _Rows, table=True):
    """An account as its owner sees it."""

    __tablename__ = "accounts"
    id: str = Field(primary_key=True)
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
    id: str
    account: str
    seq: int
    amount: int


class Booking(_Rows, table=True):
    """What one handler did for one event; `position` is the order of commits."""

    __tablename__ = "bookings"
    position: int | None = Field(default=None, primary_key=True)
    subscriber: str
    event_id: str
    transfer_id: str
    account: str
    seq: int
    amount: int
    attempt: int


class Balance(_Rows, table=True):
    """An account as a handler sees it."""

    __tablename__ = "balances"
    subscriber: str = Field(primary_key=True)
    account: str = Field(primary_key=True)
    balance: int = 0
    seq: int = 0


def database_of(folder: Path) -> Path:
    """The ledger's file."""
    return folder / "ledger.db"


def prepare(folder: Path) -> None:
    """Make the tables and open the accounts."""
    engine = create_engine(f"sqlite:///{database_of(folder)}")
    _Rows.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Account(id=name) for name in ACCOUNTS])
        session.commit()
    engine.dispose()
