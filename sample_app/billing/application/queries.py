"""What can be asked about invoices."""

from dataclasses import dataclass
from uuid import UUID

from mediator import Query, QueryHandler
from sample_app.billing.domain import Invoices

__all__ = ["GetInvoice", "GetInvoiceHandler", "InvoiceView"]


@dataclass(frozen=True)
class InvoiceView:
    amount: int
    currency: str
    status: str


@dataclass(frozen=True)
class GetInvoice(Query[InvoiceView]):
    order_id: UUID


class GetInvoiceHandler(QueryHandler[GetInvoice, InvoiceView]):
    def __init__(self, invoices: Invoices) -> None:
        self.invoices = invoices

    async def handle(self, query: GetInvoice) -> InvoiceView:
        invoice = await self.invoices.get(query.order_id)
        return InvoiceView(invoice.amount, invoice.currency, invoice.status)
