"""A masked event shows everything but what is sensitive, and when in doubt less."""

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, NewType, TypeAlias

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, RootModel, computed_field

from contracts import ContractWarning, IntegrationEvent, Sensitive, masked
from contracts.masking import is_hidden, visible_location

Email = NewType("Email", str)
Secret = Annotated[str, Sensitive()]


class Line(BaseModel):
    sku: str
    note: Secret = ""
    parts: tuple["Line", ...] = ()


class Customer(BaseModel):
    name: Secret
    country: str


class Company(BaseModel):
    title: str
    country: Secret


class Notes(RootModel[tuple[Secret, ...]]):
    pass


Party: TypeAlias = Customer | Company | str | None

with warnings.catch_warnings():
    # Of the union of two models; test_advice.py tells of it.
    warnings.simplefilter("ignore", ContractWarning)

    class OrderPlaced(IntegrationEvent):
        order_id: int
        email: Annotated[Email | None, Sensitive()] = None
        phone: Secret | None = Field(default=None, alias="phoneNumber")
        street: Secret = Field(
            default="", validation_alias=AliasChoices("street", "road", AliasPath("address", "street"))
        )
        customer: Customer | None = None
        party: Party = None
        lines: tuple[Line, ...] = ()
        tags: Mapping[str, Secret] = Field(default_factory=dict)
        contacts: Annotated[tuple[Customer, ...], Sensitive()] = ()
        notes: Notes = Notes(())
        prices: Annotated[dict[str, int], Sensitive()] = Field(default_factory=dict)

        @computed_field  # type: ignore[prop-decorator]
        @property
        def greeting(self) -> Secret:
            return f"Dear {self.email}"


def shown(**data: Any) -> Any:
    return masked(data, OrderPlaced)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"order_id": 1, "email": "a@b"}, {"order_id": 1, "email": "***"}),
        ({"email": None}, {"email": "***"}),
        ({"phone": "1", "phoneNumber": "2"}, {"phone": "***", "phoneNumber": "***"}),
        ({"road": "x", "address": {"street": "x", "city": "y"}}, {"road": "***", "address": "***"}),
        ({"customer": {"name": "Ann", "country": "CH"}}, {"customer": {"name": "***", "country": "CH"}}),
        ({"customer": None}, {"customer": None}),
        ({"lines": [{"sku": "a", "note": "n"}, {"sku": "b"}]}, {"lines": [{"sku": "a", "note": "***"}, {"sku": "b"}]}),
        ({"lines": [{"parts": [{"note": "n", "sku": "c"}]}]}, {"lines": [{"parts": [{"note": "***", "sku": "c"}]}]}),
        ({"tags": {"a": "1", "b": "2"}}, {"tags": {"a": "***", "b": "***"}}),
        ({"contacts": [{"country": "CH"}]}, {"contacts": "***"}),
        ({"notes": ["a", "b"]}, {"notes": ["***", "***"]}),
        ({"greeting": "Dear Ann"}, {"greeting": "***"}),
        # Whatever one of several models marks is masked in all of them.
        ({"party": {"name": "n", "title": "t", "country": "CH"}},
         {"party": {"name": "***", "title": "t", "country": "***"}}),
        ({"party": "somebody"}, {"party": "somebody"}),
        # What does not fit.
        ({"customer": "Ann of Berne"}, {"customer": "***"}),
        ({"customer": [{"name": "Ann"}]}, {"customer": "***"}),
        ({"lines": {"note": "n"}}, {"lines": "***"}),
        ({"lines": "n"}, {"lines": "***"}),
        ({"tags": ["n"]}, {"tags": "***"}),
        # What nobody has marked.
        ({"unknown": {"email": "a@b"}, "order_id": [1]}, {"unknown": {"email": "a@b"}, "order_id": [1]}),
    ],
)  # fmt: skip
def test_sensitive_values_are_replaced(data: dict[str, Any], expected: dict[str, Any]) -> None:
    assert shown(**data) == expected


def test_an_event_is_shown_as_json_has_it() -> None:
    event = OrderPlaced(order_id=1, email=Email("ann@example.org"), customer=Customer(name="Ann", country="CH"))

    found = masked(event, OrderPlaced)

    assert found["event_id"] == str(event.event_id)
    assert found["customer"] == {"name": "***", "country": "CH"}
    assert "Ann" not in str(found)
    assert "ann@example.org" not in str(found)


def test_what_was_given_stays_as_it_is() -> None:
    data = {"tags": {"a": "1"}, "lines": [{"note": "n"}]}

    shown(**data)

    assert data == {"tags": {"a": "1"}, "lines": [{"note": "n"}]}


@pytest.mark.parametrize("data", [None, "text", 5, [1]])
def test_what_is_no_object_at_all_is_hidden(data: Any) -> None:
    assert masked(data, OrderPlaced) == (None if data is None else "***")


@pytest.mark.parametrize(
    ("location", "visible", "hidden"),
    [
        (("order_id",), ("order_id",), False),
        (("email",), ("email",), True),
        (("lines", 0, "note"), ("lines", 0, "note"), True),
        (("lines", 0, "sku"), ("lines", 0, "sku"), False),
        (("prices", "ann@example.org"), ("prices",), True),
        (("party", "Customer", "name"), ("party", "Customer", "name"), True),
        ((), (), False),
    ],
)
def test_a_place_is_told_as_far_as_it_holds_no_value(
    location: tuple[str | int, ...], visible: tuple[str | int, ...], hidden: bool
) -> None:
    assert visible_location(location, OrderPlaced) == visible
    assert is_hidden(location, OrderPlaced) is hidden
