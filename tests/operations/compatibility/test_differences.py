from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mediator.operations.compatibility import diff, schemas_of, state_of
from tests.operations.compatibility.ordering import order_placed


class Line(BaseModel):
    price: Decimal
    again: "Line | None" = None


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Transfer(BaseModel):
    kind: Literal["transfer"]
    iban: str


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = state_of(order_placed(fields=before)), state_of(order_placed(fields=after))
    return [str(change) for change in diff(old.schemas, new.schemas)]


def test_nothing_changed() -> None:
    assert changes({}, {}) == []


def test_field_that_comes_goes_and_changes() -> None:
    assert changes({"a": (int, ...), "b": (str, ...)}, {"b": (str | None, None), "c": (int, 3)}) == [
        "- a: integer",
        "~ b: string -> string or null, optional = null",
        "+ c: integer, optional = 3",
    ]


def test_fields_of_parts_have_paths() -> None:
    found = changes({}, {"lines": (tuple[Line, ...], ...), "prices": (dict[str, Line], ...)})

    assert [line.split(":")[0] for line in found] == [
        "+ lines",
        "+ lines[].again",
        "+ lines[].price",
        "+ prices",
        "+ prices{}.again",
        "+ prices{}.price",
    ]


def test_variants_are_told_apart() -> None:
    found = changes({}, {"payment": (Annotated[Card | Transfer, Field(discriminator="kind")], ...)})

    assert "+ payment(card).number: string" in found
    assert "+ payment(transfer).iban: string" in found


def test_what_is_written_otherwise_is_shown() -> None:
    assert changes({}, {"a": (Decimal, ...)}) == ["+ a: decimal"]


def test_new_words_are_told() -> None:
    before, after = {"a": (int, Field(description="one"))}, {"a": (int, Field(description="two"))}

    assert changes(before, after) == ["~ a: described anew"]


def test_whole_event_that_comes_is_a_difference_too() -> None:
    found = diff(None, schemas_of(order_placed()))

    assert {change.kind for change in found} == {"added"}
    assert found[0].to_dict()["path"] == ""
