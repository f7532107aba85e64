from collections.abc import Callable
from uuid import uuid4

import pytest

from sample_app.billing.application.payment_gateway import Charge, MerchantAccountMissingError
from sample_app.billing.domain import Invoice, InvoiceSettledError, InvoiceStatus, PaymentCaptured, PaymentDeclined
from sample_app.billing.infrastructure import SandboxGateway

SETTLE: list[Callable[[Invoice], None]] = [Invoice.mark_paid, lambda one: one.mark_declined("limit"), Invoice.void]


def invoice() -> Invoice:
    return Invoice(order_id=uuid4(), amount=1_250, currency="EUR")


def test_payment_is_captured() -> None:
    one = invoice()

    one.mark_paid()

    assert one.status is InvoiceStatus.PAID
    assert one.recorded_events == (PaymentCaptured(one.order_id, 1_250, "EUR"),)


def test_payment_is_declined() -> None:
    one = invoice()

    one.mark_declined("limit")

    assert one.status is InvoiceStatus.DECLINED
    assert one.recorded_events == (PaymentDeclined(one.order_id, "limit"),)


@pytest.mark.parametrize("second", SETTLE)
@pytest.mark.parametrize("first", SETTLE)
def test_invoice_is_settled_once(first: Callable[[Invoice], None], second: Callable[[Invoice], None]) -> None:
    one = invoice()
    first(one)
    before = one.status, one.recorded_events

    with pytest.raises(InvoiceSettledError, match=f"is {one.status} already"):
        second(one)

    assert (one.status, one.recorded_events) == before


async def test_gateway_charges_once_for_an_idempotency_key() -> None:
    gateway = SandboxGateway()

    answers = [await gateway.charge(amount, "EUR", idempotency_key="a") for amount in (100_000, 100_001)]

    assert answers == [Charge(is_approved=True)] * 2
    assert len(gateway.charges) == 1


async def test_gateway_declines_above_the_limit() -> None:
    charge = await SandboxGateway().charge(100_001, "EUR", idempotency_key="a")

    assert charge == Charge(is_approved=False, reason="card limit exceeded")


async def test_gateway_needs_an_account_in_the_currency() -> None:
    gateway = SandboxGateway()

    with pytest.raises(MerchantAccountMissingError, match="no merchant account for CHF"):
        await gateway.charge(1, "CHF", idempotency_key="a")

    gateway.open_account("CHF")
    assert (await gateway.charge(1, "CHF", idempotency_key="a")).is_approved
