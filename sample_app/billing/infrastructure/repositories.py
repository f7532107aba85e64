"""The repository on the session of the unit of work; what it hands out is locked until that ends."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.billing.domain import Invoice, Invoices

__all__ = ["SqlInvoices"]


class SqlInvoices(Invoices):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, invoice: Invoice) -> None:
        self.session.add(invoice)

    async def get(self, order_id: UUID) -> Invoice:
        invoice = await self.session.get(Invoice, order_id, with_for_update=True)
        if invoice is None:
            raise LookupError(f"there is no invoice for order {order_id} yet")
        return invoice
