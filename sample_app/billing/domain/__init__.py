"""Billing in its own words."""

from sample_app.billing.domain.invoice import (
    Invoice,
    Invoices,
    InvoiceSettledError,
    InvoiceStatus,
    PaymentCaptured,
    PaymentDeclined,
)

__all__ = [
    "Invoice",
    "InvoiceSettledError",
    "InvoiceStatus",
    "Invoices",
    "PaymentCaptured",
    "PaymentDeclined",
]
