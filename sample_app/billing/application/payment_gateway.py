"""The payment provider, as billing sees it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["Charge", "GatewayUnavailableError", "MerchantAccountMissingError", "PaymentGateway"]


class GatewayUnavailableError(Exception):
    """The provider does not answer: trying again later may help."""


class MerchantAccountMissingError(Exception):
    """We have no account in this currency: trying again cannot help, somebody has to open one."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        super().__init__(f"no merchant account for {currency}: open one and replay")


@dataclass(frozen=True)
class Charge:
    """The provider's answer."""

    is_approved: bool
    reason: str = ""


class PaymentGateway(ABC):
    """Takes money."""

    @abstractmethod
    async def charge(self, amount: int, currency: str, *, idempotency_key: str) -> Charge:
        """Charge once per idempotency key, however often it is asked with it."""
