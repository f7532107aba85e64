"""Schema files are documents of their own: valid, named by the wire name, and true of what is written."""

import json
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator

from mediator.operations.documents.events import EventDocument, EventDocuments
from mediator.operations.documents.schemas import json_schema, json_schemas
from tests.operations.documents.languages import language, sample


def named(slug: str) -> EventDocument:
    found = language().named(slug)
    assert found is not None
    return found


@pytest.mark.parametrize("documents", [sample, language])
def test_schemas_are_valid_and_fit_their_examples(documents: Callable[[], EventDocuments]) -> None:
    for event in documents().events:
        schema = json_schema(event)
        Draft202012Validator.check_schema(schema)
        assert event.example is not None
        assert list(Draft202012Validator(schema).iter_errors(dict(event.example))) == [], event.slug


def test_schema_refuses_what_is_not_the_event() -> None:
    event = named("shipping.parcel-sent.v1")

    validator = Draft202012Validator(json_schema(event))

    assert not validator.is_valid({**(event.example or {}), "count": 100})
    assert not validator.is_valid({name: value for name, value in (event.example or {}).items() if name != "pieces"})


def test_schema_is_named_by_the_wire_name_and_version() -> None:
    schema = json_schema(named("shipping.parcel-sent.v1"))

    assert schema["$id"] == "urn:shipping:parcel-sent:v1"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["deprecated"] is True


def test_sets_in_defaults_are_sorted() -> None:
    piece = json_schema(named("shipping.parcel-sent.v1"))["$defs"]["Piece"]

    assert piece["properties"]["tags"]["default"] == ["cold", "hot", "loud", "new", "old"]


def test_there_is_a_file_for_each_event() -> None:
    files = json_schemas(sample())

    assert len(files) == 14
    assert json.loads(files["schemas/ordering.order-placed.v2.json"])["title"] == "OrderPlacedV2"
