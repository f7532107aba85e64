"""The module books: handlers that succeed, fail, hesitate and publish."""

import asyncio
from datetime import timedelta

from mediator import PermanentError
from tests.ledger.amounts import failures_of, hesitates, is_doomed
from tests.ledger.bookkeeper import Bookkeeper
from tests.ledger.contracts import AccountTouchedV1, MoneyMovedV1

__all__ = ["Apply", "Audit", "Cascade", "CountTouched", "Flaky", "Slow", "Strict"]


class Apply(Bookkeeper[MoneyMovedV1]):
    """Keeps the order of an account."""

    ordering = "key"

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)


class Audit(Bookkeeper[MoneyMovedV1]):
    """Books independently of all others."""

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)


class Cascade(Bookkeeper[MoneyMovedV1]):
    """Publishes an event of its own for each that it handles."""

    async def handle(self, event: MoneyMovedV1) -> AccountTouchedV1:
        await self.book(event)
        return AccountTouchedV1(
            transfer_id=event.transfer_id, account=event.account, seq=event.seq, amount=event.amount
        )


class CountTouched(Bookkeeper[AccountTouchedV1]):
    """Books what the cascade published."""

    async def handle(self, event: AccountTouchedV1) -> None:
        await self.book(event)


class Flaky(Bookkeeper[MoneyMovedV1]):
    """Fails at first for some amounts, after it has written; keeps the order of an account all the same."""

    ordering = "key"

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)
        if self._context.attempt <= failures_of(event.amount):
            raise RuntimeError(f"attempt {self._context.attempt} of {event.transfer_id}")


class Slow(Bookkeeper[MoneyMovedV1]):
    """Does not end before its timeout at first, and hides that it was cancelled."""

    timeout = timedelta(milliseconds=250)

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)
        if hesitates(event.amount) and self._context.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return


class Strict(Bookkeeper[MoneyMovedV1]):
    """Cannot take some amounts until it is healed."""

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)
        if is_doomed(event.amount) and not self._conditions.healed:
            raise PermanentError(f"cannot take {event.amount}")
