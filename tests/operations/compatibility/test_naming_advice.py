import pytest

from contracts import IntegrationEvent
from mediator.operations.compatibility import Severity, advice, is_past_tense
from tests.operations.compatibility.ordering import order_placed


@pytest.mark.parametrize(
    "name",
    [
        "order-placed",
        "price-changed",
        "goods-sent",
        "order-paid",
        "customer-checked-in",
        "stock-told",
        "payment-withdrawn",
        "placed",
        "stock-ran-short",
        "stock-asked-for",
    ],
)
def test_what_happened_is_past_tense(name: str) -> None:
    assert is_past_tense(name)


@pytest.mark.parametrize(
    "name",
    ["place-order", "order-placing", "order", "order-status", "price-feed", "payment-need", "in", "order-in", "red"],
)
def test_commands_and_things_are_not(name: str) -> None:
    assert not is_past_tense(name)


def rules(event_class: type[IntegrationEvent]) -> list[str]:
    found = list(advice(event_class))
    assert {finding.severity for finding in found} <= {Severity.ADVICE}
    return [finding.rule.value for finding in found]


def test_good_event_gets_no_advice() -> None:
    assert rules(order_placed()) == []


def test_command_gets_advice() -> None:
    assert rules(order_placed("PlaceOrderV1")) == ["NAME_NOT_PAST_TENSE"]


@pytest.mark.parametrize(("name", "version"), [("OrderPlaced", "v1"), ("OrderPlacedV1", "v2")])
def test_version_belongs_into_the_name(name: str, version: str) -> None:
    assert rules(order_placed(name, version=version)) == ["VERSION_SUFFIX"]


def test_event_without_a_version_needs_no_suffix() -> None:
    assert rules(order_placed("OrderPlaced", version="")) == []


def test_public_event_needs_words_and_an_owner() -> None:
    assert rules(order_placed(doc="", owner="")) == ["DESCRIPTION_MISSING", "OWNER_MISSING"]


def test_internal_event_does_not() -> None:
    assert rules(order_placed(doc="", owner="", internal=True)) == []
