"""What the modules of the ledger tell one another."""

from typing import Annotated

from contracts import IntegrationEvent, PartitionKey, event_topic

__all__ = ["AccountTouchedV1", "MoneyMovedV1"]


@event_topic("transfers", domain="payments")
class MoneyMovedV1(IntegrationEvent):
    """Money was moved to an account; `seq` counts the moves of that account."""

    transfer_id: str
    account: Annotated[str, PartitionKey()]
    seq: int
    amount: int


@event_topic("accounts", domain="books")
class AccountTouchedV1(IntegrationEvent):
    """The books of an account were touched by a transfer."""

    transfer_id: str
    account: Annotated[str, PartitionKey()]
    seq: int
    amount: int
