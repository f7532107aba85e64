"""What all handlers of the ledger do: write a booking down through their session."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from tests.ledger.contracts import AccountTouchedV1, MoneyMovedV1
from tests.ledger.tables import Balance, Booking

__all__ = ["SOON", "Bookkeeper", "Conditions"]

SOON = RetryPolicy.fixed(100, timedelta(milliseconds=2))
E_contra = TypeVar("E_contra", bound=MoneyMovedV1 | AccountTouchedV1, contravariant=True)


@dataclass
class Conditions:
    """What handlers find outside; a person who heals changes it."""

    healed: bool = False


class Bookkeeper(IntegrationEventHandler[E_contra]):
    """A handler that books."""

    retry = SOON

    def __init__(self, session: AsyncSession, context: MessageContext, conditions: Conditions) -> None:
        self._session, self._context, self._conditions = session, context, conditions

    async def book(self, event: MoneyMovedV1 | AccountTouchedV1) -> None:
        """Add it up, and write it down."""
        subscriber = self._context.subscriber_id or ""
        # Events of one account may be handled at the same time, here or in another process.
        balance = await self._session.get_one(Balance, (subscriber, event.account), with_for_update=True)
        balance.balance += event.amount
        balance.seq = event.seq
        self._session.add(
            Booking(
                subscriber=subscriber,
                event_id=str(self._context.message_id),
                transfer_id=event.transfer_id,
                account=event.account,
                seq=event.seq,
                amount=event.amount,
                attempt=self._context.attempt,
            )
        )
        await self._session.flush()
