"""The invoice: open until it is paid, declined or void, and settled only once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlmodel import Field, SQLModel

from mediator.domain import AggregateRoot, DomainEvent

__all__ = ["Invoice", "InvoiceSettledError", "InvoiceStatus", "Invoices", "PaymentCaptured", "PaymentDeclined"]


class InvoiceStatus(StrEnum):
    OPEN = "open"
    PAID = "paid"
    DECLINED = "declined"
    VOID = "void"


@dataclass(frozen=True)
class PaymentCaptured(DomainEvent):
    order_id: UUID
    amount: int
    currency: str


@dataclass(frozen=True)
class PaymentDeclined(DomainEvent):
    order_id: UUID
    reason: str


class InvoiceSettledError(Exception):
    """An invoice is settled once."""

    def __init__(self, order_id: UUID, status: InvoiceStatus) -> None:
        self.order_id, self.status = order_id, status
        super().__init__(f"the invoice for order {order_id} is {status} already")


class Invoice(AggregateRoot, SQLModel, table=True):
    """What a customer owes for an order."""

    __tablename__ = "billing_invoice"

    order_id: UUID = Field(primary_key=True)
    amount: int
    """In the currency's smallest unit."""
    currency: str = Field(max_length=3)
    status: InvoiceStatus = InvoiceStatus.OPEN

    @property
    def is_open(self) -> bool:
        return self.status is InvoiceStatus.OPEN

    def mark_paid(self) -> None:
        self._settle(InvoiceStatus.PAID)
        self.record_event(PaymentCaptured(self.order_id, self.amount, self.currency))

    def mark_declined(self, reason: str) -> None:
        self._settle(InvoiceStatus.DECLINED)
        self.record_event(PaymentDeclined(self.order_id, reason))

    def void(self) -> None:
        self._settle(InvoiceStatus.VOID)

    def _settle(self, status: InvoiceStatus) -> None:
        if not self.is_open:
            raise InvoiceSettledError(self.order_id, self.status)
        self.status = status


class Invoices(ABC):
    """All invoices."""

    @abstractmethod
    def add(self, invoice: Invoice) -> None: ...

    @abstractmethod
    async def get(self, order_id: UUID) -> Invoice:
        """The invoice for an order, for whoever wants to change it: one after the other. Raises LookupError."""
