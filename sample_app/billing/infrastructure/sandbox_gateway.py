"""A payment provider that lives in this process."""

from sample_app.billing.application.payment_gateway import Charge, MerchantAccountMissingError, PaymentGateway

__all__ = ["SandboxGateway"]

_LIMIT = 100_000


class SandboxGateway(PaymentGateway):
    """Approves up to 1,000.00 in the currencies that we have an account in."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self._currencies = {"EUR"}

    def open_account(self, currency: str) -> None:
        self._currencies.add(currency)

    async def charge(self, amount: int, currency: str, *, idempotency_key: str) -> Charge:
        if currency not in self._currencies:
            raise MerchantAccountMissingError(currency)
        if idempotency_key not in self.charges:
            approved = amount <= _LIMIT
            self.charges[idempotency_key] = Charge(approved, "" if approved else "card limit exceeded")
        return self.charges[idempotency_key]
