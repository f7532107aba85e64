"""The module payments: moves money, publishes that it did."""

from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Command, CommandHandler, DomainEventHandler, IntegrationEventConverter
from tests.ledger.amounts import is_refused, is_refused_late
from tests.ledger.contracts import MoneyMovedV1
from tests.ledger.events import MoneyMoved, TransferBooked
from tests.ledger.tables import Account

__all__ = ["MoveMoney", "MoveMoneyHandler", "Publish", "RefuseLate", "TransferRefusedError"]


class TransferRefusedError(Exception):
    """Rolls a transfer back."""


@dataclass(frozen=True)
class MoveMoney(Command[None]):
    """Move `amount` to `account`."""

    transfer_id: str
    account: str
    amount: int


class MoveMoneyHandler(CommandHandler[MoveMoney, None]):
    """Changes the account, writes the transfer down, and perhaps refuses after all."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, command: MoveMoney) -> None:
        account = await self._session.get_one(Account, command.account, with_for_update=True)
        self._session.add(account.move(command.transfer_id, command.amount))
        await self._session.flush()
        if is_refused(command.amount) and not is_refused_late(command.amount):
            raise TransferRefusedError(command.transfer_id)


class RefuseLate(DomainEventHandler[TransferBooked]):
    """Refuses when the transfer's event is on its way to the outbox."""

    async def handle(self, event: TransferBooked) -> None:
        raise TransferRefusedError(event.amount)


class Publish(IntegrationEventConverter[MoneyMoved, MoneyMovedV1]):
    """Tells the other modules."""

    def convert(self, event: MoneyMoved) -> MoneyMovedV1:
        return MoneyMovedV1(transfer_id=event.transfer_id, account=event.account, seq=event.seq, amount=event.amount)
