"""What is marked as sensitive is found by its path, however deep it stands."""

from typing import Annotated, Any, NewType

import pytest
from pydantic import BaseModel, RootModel, computed_field, create_model

from contracts import IntegrationEvent, PartitionKey, PartitionKeyError, Sensitive, sensitive_fields

Email = NewType("Email", str)


class Line(BaseModel):
    sku: str
    note: Annotated[str, Sensitive()] = ""
    parts: tuple["Line", ...] = ()


class Customer(BaseModel):
    name: Annotated[str, Sensitive()]
    country: str


class Notes(RootModel[tuple[Annotated[str, Sensitive()], ...]]):
    pass


class OrderPlaced(IntegrationEvent):
    order_id: int
    email: Annotated[Email | None, Sensitive()] = None
    phone: Annotated[str, Sensitive()] | None = None
    customer: Customer
    lines: tuple[Line, ...]
    tags: dict[str, Annotated[str, Sensitive()]]
    contacts: Annotated[tuple[Customer, ...], Sensitive()] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def greeting(self) -> Annotated[str, Sensitive()]:
        return f"Dear {self.customer.name}"


class Nothing(IntegrationEvent):
    number: int
    lines: tuple[int, ...] = ()


def test_every_mark_has_its_path() -> None:
    assert sensitive_fields(OrderPlaced) == (
        "email",
        "phone",
        "customer.name",
        "lines[].note",
        "tags{}",
        "contacts",
        "greeting",
    )


def test_without_a_mark_nothing_is_sensitive() -> None:
    assert sensitive_fields(Nothing) == ()


def test_a_mark_below_a_root_model_is_found() -> None:
    class Noted(IntegrationEvent):
        notes: Notes

    assert sensitive_fields(Noted) == ("notes.root[]",)


def test_a_model_that_is_defined_later_is_followed() -> None:
    assert sensitive_fields(Early) == ("later.secret",)


def test_the_schema_says_what_is_sensitive() -> None:
    schema = OrderPlaced.model_json_schema()

    assert schema["properties"]["email"]["x-sensitive"] is True
    assert schema["properties"]["tags"]["additionalProperties"]["x-sensitive"] is True
    assert schema["$defs"]["Line"]["properties"]["note"]["x-sensitive"] is True
    assert "x-sensitive" not in schema["properties"]["order_id"]


@pytest.mark.parametrize("annotation", [Annotated[str, Sensitive()], Annotated[str, Sensitive()] | None])
def test_a_sensitive_value_is_no_partition_key(annotation: Any) -> None:
    with pytest.raises(PartitionKeyError, match="its value is sensitive, and a key stands in headers"):
        create_model("Made", __base__=IntegrationEvent, email=(Annotated[annotation, PartitionKey()], ...))


def test_the_mark_changes_neither_values_nor_the_wire() -> None:
    customer = Customer(name="Ann", country="CH")
    event = OrderPlaced(order_id=1, email=Email("ann@example.org"), customer=customer, lines=(), tags={"a": "b"})

    assert event.email == "ann@example.org"
    assert '"email":"ann@example.org"' in event.model_dump_json()


class Early(IntegrationEvent):
    later: "Later"


class Later(BaseModel):
    secret: Annotated[str, Sensitive()]
