"""What can be asked about invoices."""

from dataclasses import dataclass
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Query, QueryHandler
from sample_app.billing.domain import Invoice

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
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: GetInvoice) -> InvoiceView:
        invoice = await self.session.get(Invoice, query.order_id)
        if invoice is None:
            raise LookupError(f"there is no invoice for order {query.order_id} yet")
        return InvoiceView(invoice.amount, invoice.currency, invoice.status)
