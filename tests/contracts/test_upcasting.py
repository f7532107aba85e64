"""An upcaster leads from an older version of an event to a newer one."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from contracts import ContractError, IntegrationEvent, TopicError, Upcaster, UpcasterError, event_topic, upcaster


@event_topic("payments", domain="invoicing", version="", internal=True)
class PaymentBooked(IntegrationEvent):
    amount: int


@event_topic("payments", domain="invoicing", version="v2")
class PaymentBookedV2(IntegrationEvent):
    amount: int
    currency: str


@event_topic("payments", domain="invoicing", version="v10")
class PaymentBookedV10(IntegrationEvent):
    amount: int
    currency: str


@event_topic("payments", domain="invoicing", version="v3")
class PaymentCancelledV3(IntegrationEvent):
    amount: int


class Unaddressed(IntegrationEvent):
    pass


def add_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


def test_an_upcaster_is_a_marked_function() -> None:
    marked = upcaster(PaymentBooked, PaymentBookedV2)(add_currency)

    assert marked == Upcaster(PaymentBooked, PaymentBookedV2, add_currency)
    assert marked({"amount": 1}) == {"amount": 1, "currency": "EUR"}


def test_versions_are_compared_as_numbers() -> None:
    assert upcaster(PaymentBookedV2, PaymentBookedV10)(dict).target is PaymentBookedV10
    with pytest.raises(UpcasterError, match="v10 is not older than v2"):
        upcaster(PaymentBookedV10, PaymentBookedV2)(dict)


def test_a_version_does_not_lead_to_itself() -> None:
    with pytest.raises(UpcasterError, match="no version is not older than no version"):
        upcaster(PaymentBooked, PaymentBooked)(dict)


def test_different_events_are_not_versions_of_one() -> None:
    with pytest.raises(ContractError, match=r"invoicing\.payment-booked and invoicing\.payment-cancelled"):
        upcaster(PaymentBookedV2, PaymentCancelledV3)(dict)


def test_both_versions_need_a_topic() -> None:
    with pytest.raises(TopicError, match="Unaddressed"):
        upcaster(Unaddressed, PaymentBookedV2)(dict)


def test_an_upcaster_does_not_wait() -> None:
    async def later(data: dict[str, Any]) -> dict[str, Any]:
        return data

    with pytest.raises(UpcasterError, match="it is async"):
        upcaster(PaymentBooked, PaymentBookedV2)(later)  # type: ignore[arg-type]


def test_an_upcaster_cannot_be_changed() -> None:
    marked = upcaster(PaymentBooked, PaymentBookedV2)(add_currency)

    with pytest.raises(FrozenInstanceError):
        marked.target = PaymentBookedV10  # type: ignore[misc]
