"""Upcasting runs once for each class that is wanted, on data of its own, and its failure is told as its own."""

import traceback
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, field_validator

from contracts import IntegrationEvent, Sensitive, Upcaster, event_topic, upcaster
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received
from mediator.messaging.limits import Limits
from tests.promises.arrivals import envelope_of


class Line(BaseModel):
    sku: str
    quantity: int = 1


@event_topic("orders", domain="shop", name="order-placed")
class PlacedV1(IntegrationEvent):
    lines: tuple[Line, ...] = ()


@event_topic("orders", domain="shop", name="order-placed", version="v2")
class PlacedV2(IntegrationEvent):
    lines: tuple[Line, ...] = ()


@event_topic("orders", domain="shop", name="order-placed", version="v3")
class PlacedV3(IntegrationEvent):
    lines: tuple[Line, ...] = ()


@event_topic("people", domain="shop", name="moved")
class MovedV1(IntegrationEvent):
    email: Annotated[str, Sensitive()] = "ann@example.org"


@event_topic("people", domain="shop", name="moved", version="v2")
class MovedV2(IntegrationEvent):
    email: str
    number: int

    @field_validator("email")
    @classmethod
    def _calm(cls, email: str) -> str:
        if "!" in email:
            raise ValueError(f"{email} shouts")
        return email


def received(event: IntegrationEvent, *upcasters: Upcaster) -> Received:
    catalog = EventCatalog([PlacedV1, PlacedV2, PlacedV3, MovedV1, MovedV2], upcasters, "test")
    return Received(envelope_of(event), catalog, Limits())


def doubling(calls: list[str], name: str) -> Any:
    """An upcaster that changes nested data in place, as an author may do without a thought."""

    def double(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(name)
        for line in data["lines"]:
            line["quantity"] *= 2
        return data

    return double


def test_what_an_upcaster_changes_nobody_else_is_given() -> None:
    event, calls = PlacedV1(lines=(Line(sku="a", quantity=1),)), list[str]()
    first, second = (
        upcaster(PlacedV1, PlacedV2)(doubling(calls, "1")),
        upcaster(PlacedV2, PlacedV3)(doubling(calls, "2")),
    )
    read = received(event, first, second)

    newest, middle = read.as_class(PlacedV3), read.as_class(PlacedV2)

    assert isinstance(newest, PlacedV3)
    assert isinstance(middle, PlacedV2)
    assert [newest.lines[0].quantity, middle.lines[0].quantity] == [4, 2]
    assert read.as_class(PlacedV1) == event
    assert received(event).payload_hash == read.payload_hash


def test_a_chain_runs_once_for_each_class_however_many_want_it() -> None:
    calls = list[str]()
    ways = upcaster(PlacedV1, PlacedV2)(doubling(calls, "1")), upcaster(PlacedV2, PlacedV3)(doubling(calls, "2"))
    read = received(PlacedV1(), *ways)

    events = [read.as_class(PlacedV3) for _ in range(3)]

    assert calls == ["1", "2"]
    assert all(event is events[0] for event in events)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda data: None, "TypeError: it returned NoneType in place of the data as a dict"),
        (lambda data: [data], "TypeError: it returned list in place of the data as a dict"),
        (lambda data: data["missing"], "KeyError: 'missing'"),
        (lambda data: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_upcaster_that_fails_is_named_with_both_versions(given: Any, told: str) -> None:
    read = received(PlacedV1(), upcaster(PlacedV1, PlacedV2)(dict), upcaster(PlacedV2, PlacedV3)(given))

    with pytest.raises(UnreadableMessageError) as unreadable:
        read.as_class(PlacedV3)

    error = unreadable.value
    assert (error.reason, error.where, error.what) == ("upcaster", "PlacedV2 -> PlacedV3", told)
    assert type(read.as_class(PlacedV2)) is PlacedV2


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_what_is_no_json_is_told(value: Any) -> None:
    read = received(PlacedV1(), upcaster(PlacedV1, PlacedV2)(lambda data: {**data, "lines": value}))

    with pytest.raises(UnreadableMessageError, match=r"\(schema\) at PlacedV2: (Type|Value)Error: "):
        read.as_class(PlacedV2)


def test_what_does_not_fit_the_newer_version_is_told_by_its_path() -> None:
    read = received(PlacedV1(), upcaster(PlacedV1, PlacedV2)(lambda data: {**data, "lines": [{"sku": 1}]}))

    with pytest.raises(UnreadableMessageError, match=r"\(schema\) at lines\.0\.sku: Input should be a valid string"):
        read.as_class(PlacedV2)


@pytest.mark.parametrize(
    "function",
    [
        lambda data: {**data, "number": int(data["email"])},
        lambda data: {**data, "number": data["email"]},
        lambda data: {**data, "number": 1, "email": data["email"] + "!"},
        lambda data: {**data, "email": {data["email"]: 1}},
    ],
)
def test_a_sensitive_value_is_not_told(function: Any) -> None:
    read = received(MovedV1(), upcaster(MovedV1, MovedV2)(function))

    with pytest.raises(UnreadableMessageError) as unreadable:
        read.as_class(MovedV2)

    told = "".join(traceback.format_exception(unreadable.value))
    assert "ann@example.org" not in told
    assert any(place in told for place in ("MovedV1 -> MovedV2", "at number", "at email"))
