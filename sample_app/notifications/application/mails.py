"""Customers are told when an order is paid or cancelled.

The mail is put into the outgoing mailbox in the transaction of the inbox row: an event that arrives twice is told once.
"""

from datetime import timedelta

from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from sample_app.contracts import OrderCancelledV1, OrderPaidV1
from sample_app.notifications.domain import Mail, Mailbox

__all__ = ["SendCancellation", "SendReceipt"]


class SendReceipt(IntegrationEventHandler[OrderPaidV1]):
    retry = RetryPolicy.exponential(attempts=3, first_delay=timedelta(milliseconds=20))

    def __init__(self, mailbox: Mailbox, context: MessageContext) -> None:
        self.mailbox = mailbox
        self.context = context

    async def handle(self, event: OrderPaidV1) -> None:
        mail = Mail(
            event_id=event.event_id,
            order_id=event.order_id,
            recipient=event.customer_email,
            subject=f"{event.customer_name}, your order is paid",
            correlation_id=self.context.correlation_id,
        )
        self.mailbox.put(mail)


class SendCancellation(IntegrationEventHandler[OrderCancelledV1]):
    def __init__(self, mailbox: Mailbox, context: MessageContext) -> None:
        self.mailbox = mailbox
        self.context = context

    async def handle(self, event: OrderCancelledV1) -> None:
        mail = Mail(
            event_id=event.event_id,
            order_id=event.order_id,
            recipient=event.customer_email,
            subject=f"{event.customer_name}, your order is cancelled: {event.reason}",
            correlation_id=self.context.correlation_id,
        )
        self.mailbox.put(mail)
