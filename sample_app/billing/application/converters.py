"""What of billing other modules may know, in the words of the contracts."""

from decimal import Decimal

from mediator import IntegrationEventConverter
from sample_app.billing.domain import PaymentCaptured, PaymentDeclined
from sample_app.contracts import PaymentCapturedV1, PaymentDeclinedV1

__all__ = ["PaymentCapturedConverter", "PaymentDeclinedConverter"]


class PaymentCapturedConverter(IntegrationEventConverter[PaymentCaptured, PaymentCapturedV1]):
    def convert(self, event: PaymentCaptured) -> PaymentCapturedV1:
        return PaymentCapturedV1(
            order_id=event.order_id, amount=Decimal(event.amount).scaleb(-2), currency=event.currency
        )


class PaymentDeclinedConverter(IntegrationEventConverter[PaymentDeclined, PaymentDeclinedV1]):
    def convert(self, event: PaymentDeclined) -> PaymentDeclinedV1:
        return PaymentDeclinedV1(order_id=event.order_id, reason=event.reason)
