"""What happens inside payments."""

from dataclasses import dataclass

from mediator import DomainEvent

__all__ = ["MoneyMoved", "TransferBooked"]


@dataclass(frozen=True)
class MoneyMoved(DomainEvent):
    """Money was moved to an account."""

    transfer_id: str
    account: str
    seq: int
    amount: int


@dataclass(frozen=True)
class TransferBooked(DomainEvent):
    """Follows on a transfer that will be refused: by then its event has been converted."""

    amount: int
