"""Where billing keeps what it knows, and the payment provider's sandbox."""

from sample_app.billing.infrastructure.repositories import SqlInvoices
from sample_app.billing.infrastructure.sandbox_gateway import SandboxGateway

__all__ = ["SandboxGateway", "SqlInvoices"]
