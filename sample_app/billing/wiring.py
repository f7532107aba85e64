"""What billing's handlers get for the interfaces that they name."""

from injector import Module, provider
from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.billing.application.payment_gateway import PaymentGateway
from sample_app.billing.domain import Invoices
from sample_app.billing.infrastructure import SqlInvoices

__all__ = ["BillingWiring"]


class BillingWiring(Module):
    def __init__(self, gateway: PaymentGateway) -> None:
        self._gateway = gateway

    @provider
    def invoices(self, session: AsyncSession) -> Invoices:
        return SqlInvoices(session)

    @provider
    def gateway(self) -> PaymentGateway:
        return self._gateway
