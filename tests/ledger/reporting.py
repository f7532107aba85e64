"""The module reporting: another module's handler of the same event, with a class name that is taken elsewhere."""

from tests.ledger.bookkeeper import Bookkeeper
from tests.ledger.contracts import MoneyMovedV1

__all__ = ["Audit"]


class Audit(Bookkeeper[MoneyMovedV1]):
    """Books for the reports."""

    async def handle(self, event: MoneyMovedV1) -> None:
        await self.book(event)
