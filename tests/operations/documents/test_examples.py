"""Examples are what a publisher would send: the author's where there is one, else made up and accepted."""

import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, ConfigDict, Field, HttpUrl, IPvAnyAddress, field_validator

from contracts import IntegrationEvent
from mediator.errors import ExampleRefusedError
from mediator.operations.documents.examples import example_of
from tests.operations.documents.languages import HostileV1, ParcelSentV1, TreeGrownV1


class EveryType(IntegrationEvent):
    text: Annotated[str, Field(min_length=30, max_length=40)]
    short: Annotated[str, Field(max_length=2)]
    whole: Annotated[int, Field(ge=1_000, multiple_of=7)]
    below: Annotated[int, Field(lt=-5)]
    share: Annotated[float, Field(gt=0, lt=1)]
    price: Annotated[Decimal, Field(max_digits=6, decimal_places=2, gt=20)]
    rate: Annotated[Decimal, Field(max_digits=3, decimal_places=0)]
    moment: AwareDatetime
    day: date
    hour: time
    lasting: timedelta
    yes: bool
    choice: Literal["a", 1]
    address: HttpUrl
    host: IPvAnyAddress
    three: Annotated[tuple[int, ...], Field(min_length=3)]
    none: Annotated[tuple[int, ...], Field(max_length=0)]
    pair: tuple[UUID, str]
    prices: dict[str, Decimal]
    maybe: int | None


class OwnExample(IntegrationEvent):
    model_config = ConfigDict(json_schema_extra={"examples": [{"sku": "KB-01", "event_id": str(UUID(int=7))}]})

    sku: str
    quantity: Annotated[int, Field(examples=[3])]


class WrongExample(IntegrationEvent):
    quantity: Annotated[int, Field(examples=["many"])]


class WrongWholeExample(IntegrationEvent):
    model_config = ConfigDict(json_schema_extra={"examples": [{"quantity": -1}]})

    quantity: Annotated[int, Field(ge=0)]


class Unguessable(IntegrationEvent):
    code: Annotated[str, Field(pattern="^[0-9]{3}-[a-f]{2}$")]


class Particular(IntegrationEvent):
    word: str

    @field_validator("word")
    @classmethod
    def check(cls, word: str) -> str:
        if word != "sesame":
            raise ValueError("say the word")
        return word


class Unordered(IntegrationEvent):
    tags: Annotated[frozenset[str], Field(examples=[["e", "d", "c", "b", "a"]])]


@pytest.mark.parametrize("event", [EveryType, ParcelSentV1, TreeGrownV1, HostileV1, OwnExample])
def test_example_is_what_a_publisher_would_send(event: type[IntegrationEvent]) -> None:
    example = example_of(event)

    assert example is not None
    written = event.model_validate_json(json.dumps(example)).model_dump_json()
    assert event.model_validate_json(written) == event.model_validate(example)
    assert json.loads(written).keys() == example.keys()


def test_authors_example_goes_first() -> None:
    example = example_of(OwnExample)

    assert example is not None
    assert (example["sku"], example["quantity"], example["event_id"]) == ("KB-01", 3, str(UUID(int=7)))


@pytest.mark.parametrize("event", [WrongExample, WrongWholeExample])
def test_authors_example_that_is_refused_is_an_error(event: type[IntegrationEvent]) -> None:
    with pytest.raises(ExampleRefusedError, match="in its example at quantity"):
        example_of(event)


@pytest.mark.parametrize("event", [Unguessable, Particular])
def test_example_that_cannot_be_made_up_is_left_out(event: type[IntegrationEvent]) -> None:
    assert example_of(event) is None


def test_sets_are_sorted() -> None:
    example = example_of(Unordered)

    assert example is not None
    assert example["tags"] == ["a", "b", "c", "d", "e"]


def test_made_up_values_look_like_what_they_are() -> None:
    example = example_of(ParcelSentV1)

    assert example is not None
    assert UUID(example["event_id"]).version == 7
    assert (UUID(example["event_id"]).int >> 80) == 1_769_851_800_125, "the moment of occurred_on"
    assert UUID(example["correlation_id"]).version == 4
    assert example["occurred_on"] == "2026-01-31T09:30:00.125000Z"
    assert example["email"] == "email"
    assert example["notes"] == {"web": "notes"}
