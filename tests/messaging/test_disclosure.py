"""What an error tells of an event with sensitive fields is its kind and its place, and no value."""

import json
import traceback
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts import IntegrationEvent, Sensitive, event_topic
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received
from mediator.messaging.limits import Limits
from tests.promises.arrivals import envelope_of

SECRET = "ann@example.org"


class Contact(BaseModel):
    phone: Annotated[int, Sensitive()] = 0


@event_topic("people", domain="shop")
class MovedV1(IntegrationEvent):
    email: Annotated[str, Sensitive()] = ""
    number: int = 0
    country: str = ""
    contact: Contact = Contact()
    prices: Annotated[dict[str, int], Sensitive()] = {}  # noqa: RUF012 - pydantic copies it

    @field_validator("country")
    @classmethod
    def _known(cls, country: str) -> str:
        match country:
            case "value":
                raise ValueError(f"not for {SECRET}")
            case "assertion":
                raise AssertionError(f"not for {SECRET}")
            case "custom":
                raise PydanticCustomError("shop_custom", "not for {who}", {"who": SECRET})
            case "bug":
                raise KeyError(SECRET)
        return country

    @model_validator(mode="after")
    def _fits(self) -> "MovedV1":
        if self.country == "whole":
            raise ValueError(f"{self.email} lives elsewhere")
        return self


@event_topic("parcels", domain="shop")
class ParcelV1(IntegrationEvent):
    weight: int = 0

    @field_validator("weight")
    @classmethod
    def _light(cls, weight: int) -> int:
        if weight > 9:
            raise ValueError(f"{weight} kg are too heavy")
        return weight


def refusal(event: IntegrationEvent, **changes: Any) -> UnreadableMessageError:
    body = json.dumps({**json.loads(event.model_dump_json()), **changes}).encode()
    with pytest.raises(UnreadableMessageError) as unreadable:
        Received(envelope_of(event, body=body), EventCatalog([MovedV1, ParcelV1], [], "test"), Limits())
    return unreadable.value


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"country": "value", "email": SECRET}, "country"),
        ({"country": "assertion", "email": SECRET}, "country"),
        ({"country": "custom", "email": SECRET}, "country"),
        ({"country": "whole", "email": SECRET}, "body"),
        ({"email": [SECRET]}, "email"),
        ({"contact": {"phone": SECRET}}, "contact.phone"),
        ({"contact": SECRET}, "contact"),
        ({"prices": {SECRET: "x"}}, "prices"),
        ({"number": "x", "email": SECRET}, "number"),
        ({"country": "bug", "email": SECRET}, "MovedV1"),
    ],
)
def test_no_value_of_an_event_with_sensitive_fields_is_told(changes: dict[str, Any], where: str) -> None:
    error = refusal(MovedV1(), **changes)

    told = "".join(traceback.format_exception(error))
    assert SECRET not in told
    assert (error.reason, error.where) == ("schema", where)


def test_the_kind_of_the_error_is_told_in_place_of_its_text() -> None:
    assert refusal(MovedV1(), country="custom").what.startswith("shop_custom; the text is kept back")
    assert "KeyError in MovedV1._known, line " in refusal(MovedV1(), country="bug").what
    assert refusal(MovedV1(), number="x").what.startswith("Input should be a valid integer")


def test_where_nothing_is_sensitive_the_text_is_told() -> None:
    assert refusal(ParcelV1(), weight=10).what == "Value error, 10 kg are too heavy"
