"""A partition key consists of the marked fields, and a mark that cannot work is refused."""

from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

from contracts import ContractError, IntegrationEvent, PartitionKey, PartitionKeyError, partition_key_of

AN_ID = UUID("0198c5b4-1111-7222-8333-444455556666")
OrderId = NewType("OrderId", UUID)


class Region(StrEnum):
    EU = "eu"


class Point(Enum):
    ORIGIN = (0, 0)


class OrderPlaced(IntegrationEvent):
    order_id: Annotated[UUID, PartitionKey()]


def event_with(annotation: Any) -> type[IntegrationEvent]:
    return create_model("Made", __base__=IntegrationEvent, field=(annotation, ...))


def test_an_event_without_a_mark_has_no_key() -> None:
    assert partition_key_of(IntegrationEvent()) is None


def test_one_marked_field_is_the_key() -> None:
    assert partition_key_of(OrderPlaced(order_id=AN_ID)) == str(AN_ID)


def test_several_fields_form_the_key_in_their_order() -> None:
    class StockMoved(IntegrationEvent):
        shelf: Annotated[int, PartitionKey(order=1)]
        warehouse: Annotated[str, PartitionKey(order=0)]
        amount: int

    assert partition_key_of(StockMoved(shelf=7, warehouse="a|b", amount=3)) == "a~1b|7"


def test_a_mark_is_inherited() -> None:
    class OrderPlacedByPhone(OrderPlaced):
        line: Annotated[int, PartitionKey(1)]

    assert partition_key_of(OrderPlacedByPhone(order_id=AN_ID, line=2)) == f"{AN_ID}|2"


def test_a_redefined_field_loses_its_mark() -> None:
    class OrderPlacedAnywhere(OrderPlaced):
        order_id: UUID

    assert partition_key_of(OrderPlacedAnywhere(order_id=AN_ID)) is None


def test_a_key_is_known_once_a_forward_reference_is() -> None:
    class Shipped(IntegrationEvent):
        parcel: "Parcel"
        order_id: Annotated[UUID, PartitionKey()]

    class Parcel(BaseModel):
        weight: int

    Shipped.model_rebuild()

    assert partition_key_of(Shipped(parcel=Parcel(weight=1), order_id=AN_ID)) == str(AN_ID)


@pytest.mark.parametrize(
    ("annotation", "value", "key"),
    [
        (Annotated[str, PartitionKey()], "eu", "eu"),
        (Annotated[bool, PartitionKey()], True, "~b1"),
        (Annotated[Decimal, PartitionKey()], Decimal("1.50"), "~d1.5"),
        (Annotated[date, PartitionKey()], date(2026, 1, 2), "~a2026-01-02"),
        (Annotated[AwareDatetime, PartitionKey()], "2026-01-02T00:00Z", "~t2026-01-02T00:00:00.000000+00:00"),
        (Annotated[Region, PartitionKey()], Region.EU, "~eeu"),
        (Annotated[UUID | None, PartitionKey()], None, "~n"),
        (Annotated[Optional[int], PartitionKey()], 3, "3"),  # noqa: UP045 - the older spelling works too
        (Annotated[Literal["a", 1], PartitionKey()], 1, "1"),
        (Annotated[Annotated[str, Field(min_length=2)], PartitionKey()], "ab", "ab"),
        (Annotated[OrderId, PartitionKey()], AN_ID, str(AN_ID)),
    ],
)
def test_every_type_with_a_canonical_form_can_be_a_key(annotation: Any, value: object, key: str) -> None:
    made = event_with(annotation).model_validate({"field": value})

    assert partition_key_of(made) == key


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[float, PartitionKey()],
        Annotated[tuple[str, ...], PartitionKey()],
        Annotated[list[int], PartitionKey()],
        Annotated[str | float, PartitionKey()],
        Annotated[dict[str, str], PartitionKey()],
        Annotated[OrderPlaced, PartitionKey()],
    ],
)
def test_a_type_without_a_canonical_form_cannot_be_a_key(annotation: Any) -> None:
    with pytest.raises(PartitionKeyError, match=r"Made\.field: .* cannot be a partition key"):
        event_with(annotation)


def test_two_fields_with_one_order_are_refused() -> None:
    with pytest.raises(PartitionKeyError, match=r"Twice\.second: it has the order 0, and so has first"):

        class Twice(IntegrationEvent):
            first: Annotated[str, PartitionKey()]
            second: Annotated[str, PartitionKey()]


@pytest.mark.parametrize("annotation", [Annotated[str, PartitionKey], Annotated[str, PartitionKey(0), PartitionKey(1)]])
def test_a_field_is_marked_once_and_with_brackets(annotation: Any) -> None:
    with pytest.raises(PartitionKeyError, match=r"write PartitionKey\(\) once"):
        event_with(annotation)


class Reference(BaseModel):
    order_id: Annotated[UUID, PartitionKey()]


@pytest.mark.parametrize(
    ("annotation", "path"),
    [
        (Annotated[UUID, PartitionKey()] | None, "field"),
        (list[Annotated[UUID, PartitionKey()]], "field[]"),
        (dict[Annotated[str, PartitionKey()], int], "field{key}"),
        (Reference, "field.order_id"),
    ],
)
def test_a_mark_that_would_be_overlooked_is_refused(annotation: Any, path: str) -> None:
    with pytest.raises(ContractError, match="would be overlooked") as refusal:
        event_with(annotation)

    assert refusal.value.where.endswith(f"at {path}")


def test_an_event_inside_an_event_keeps_its_mark_to_itself() -> None:
    class Forwarded(IntegrationEvent):
        original: OrderPlaced

    assert partition_key_of(Forwarded(original=OrderPlaced(order_id=AN_ID))) is None


def test_a_wrong_value_is_named_by_its_field() -> None:
    class Noted(IntegrationEvent):
        text: Annotated[str, PartitionKey()]

    with pytest.raises(PartitionKeyError, match=r"Noted\.text: the text contains NUL"):
        partition_key_of(Noted(text="a\0b"))
