"""An order is billed when it is placed, paid when the goods are set aside, and no longer owed when it is cancelled.

`OpenInvoice` reads the second version of `OrderPlaced`: an amount without its currency is no use here.
"""

from datetime import timedelta

from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from sample_app.billing.application.payment_gateway import MerchantAccountMissingError, PaymentGateway
from sample_app.billing.domain import Invoice, Invoices
from sample_app.contracts import OrderCancelledV1, OrderPlacedV2, StockReservedV1

__all__ = ["CapturePayment", "OpenInvoice", "VoidInvoice"]


class OpenInvoice(IntegrationEventHandler[OrderPlacedV2]):
    def __init__(self, invoices: Invoices) -> None:
        self.invoices = invoices

    async def handle(self, event: OrderPlacedV2) -> None:
        amount = int(event.total.scaleb(2))
        self.invoices.add(Invoice(order_id=event.order_id, amount=amount, currency=event.currency))


class CapturePayment(IntegrationEventHandler[StockReservedV1]):
    """The charge is no part of the transaction: the event's id keeps a second attempt from charging again.

    The goods may be set aside before the invoice is there: then an attempt fails, and a later one is right.
    """

    retry = RetryPolicy.exponential(
        attempts=10, first_delay=timedelta(milliseconds=20), permanent=(MerchantAccountMissingError,)
    )

    def __init__(self, invoices: Invoices, gateway: PaymentGateway, context: MessageContext) -> None:
        self.invoices = invoices
        self.gateway = gateway
        self.context = context

    async def handle(self, event: StockReservedV1) -> None:
        invoice = await self.invoices.get(event.order_id)
        charge = await self.gateway.charge(
            invoice.amount, invoice.currency, idempotency_key=str(self.context.message_id)
        )
        if charge.is_approved:
            invoice.mark_paid()
        else:
            invoice.mark_declined(charge.reason)


class VoidInvoice(IntegrationEventHandler[OrderCancelledV1]):
    def __init__(self, invoices: Invoices) -> None:
        self.invoices = invoices

    async def handle(self, event: OrderCancelledV1) -> None:
        invoice = await self.invoices.get(event.order_id)
        if invoice.is_open:
            invoice.void()
