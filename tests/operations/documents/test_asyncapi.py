"""AsyncAPI documents are valid, by the specification's schema and by the initiative's own parser."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from mediator.errors import SettingsError
from mediator.operations.documents.asyncapi import asyncapi, asyncapi_files
from mediator.operations.documents.events import EventDocuments, documents_of_contracts
from tests.operations.documents.languages import language, sample
from tests.support.node import asyncapi_parser_says

SPECIFICATION = Path(__file__).parent / "specification/asyncapi-3.1.0.json"
LANGUAGES = [sample, language]


def errors(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(document)]


@cache
def validator() -> Draft7Validator:
    return Draft7Validator(json.loads(SPECIFICATION.read_bytes()))


def without_its_title(document: dict[str, Any]) -> None:
    del document["info"]["title"]


def with_an_unknown_action(document: dict[str, Any]) -> None:
    next(iter(document["operations"].values()))["action"] = "shout"


def with_a_message_that_is_missing(document: dict[str, Any]) -> None:
    next(iter(document["operations"].values()))["messages"] = [{"$ref": "#/components/messages/missing"}]


@pytest.mark.parametrize("documents", LANGUAGES)
def test_documents_are_valid_by_the_specification(documents: Callable[[], EventDocuments]) -> None:
    for path, text in asyncapi_files(documents()).items():
        assert errors(json.loads(text)) == [], path


@pytest.mark.parametrize("planted", [without_its_title, with_an_unknown_action])
def test_specification_finds_a_planted_error(planted: Callable[[dict[str, Any]], None]) -> None:
    document = asyncapi(sample())
    planted(document)

    assert errors(document) != []


def test_parser_accepts_every_document(tmp_path: Path) -> None:
    paths = []
    for name, documents in (("sample", sample()), ("language", language())):
        for path, text in asyncapi_files(documents).items():
            paths.append(tmp_path / name / path)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            paths[-1].write_text(text)

    found = asyncapi_parser_says(paths)

    assert len(paths) == 6
    assert found == {str(path): [] for path in paths}


def test_parser_finds_planted_errors(tmp_path: Path) -> None:
    paths = []
    for plant in (without_its_title, with_an_unknown_action, with_a_message_that_is_missing):
        document = asyncapi(sample())
        plant(document)
        paths.append(tmp_path / f"{plant.__name__}.json")
        paths[-1].write_text(json.dumps(document))

    found = asyncapi_parser_says(paths)

    assert [path for path in paths if not found[str(path)]] == []
    assert "title" in found[str(paths[0])][0]


@pytest.mark.parametrize("documents", LANGUAGES)
def test_examples_fit_their_schemas(documents: Callable[[], EventDocuments]) -> None:
    document = asyncapi(documents())
    checked = 0
    for name, message in document["components"]["messages"].items():
        for example in message["examples"]:
            for part in ("headers", "payload"):
                schema = {**message[part], "components": document["components"]}
                assert [error.message for error in Draft7Validator(schema).iter_errors(example[part])] == [], name
                checked += 1

    assert checked == 2 * len(document["components"]["messages"])


def test_tuples_and_discriminators_are_in_asyncapis_words() -> None:
    schemas = asyncapi(language())["components"]["schemas"]

    payload = schemas["shipping.parcel-sent.v1"]["properties"]
    assert payload["paid"]["discriminator"] == "kind"
    assert payload["size"]["items"] == [{"type": "integer"}] * 3
    assert "prefixItems" not in payload["size"]
    assert payload["items"]["default"] == "a field may be called as a keyword is"


def test_nothing_stands_beside_a_reference() -> None:
    def beside(node: Any) -> list[Any]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        found = [node] if isinstance(node, dict) and "$ref" in node and len(node) > 1 else []
        return found + [one for value in inner for one in beside(value)]

    assert beside(asyncapi(language())) == []


def test_message_says_what_a_reader_has_to_know() -> None:
    message = asyncapi(language())["components"]["messages"]["shipping.parcel-sent.v1"]

    assert message["correlationId"]["location"] == "$message.header#/ce-correlationid"
    assert message["x-partition-key"] == ["tenant", "parcel_id"]
    assert message["x-owner"] == "team-shipping"
    assert message["deprecated"] is True
    assert message["x-deprecated"] == {
        "since": "2026-03-01",
        "sunset": "2026-09-01",
        "replacement": "shipping.parcel-sent.v2",
    }


def test_modules_document_has_what_it_sends_and_receives() -> None:
    document = asyncapi(sample(), module="billing")

    operations = {
        (one["action"], one["messages"][0]["$ref"].rpartition("/")[2]) for one in document["operations"].values()
    }
    assert operations == {
        ("send", "billing.payment-captured.v1"),
        ("send", "billing.payment-declined.v1"),
        ("receive", "inventory.stock-reserved.v1"),
        ("receive", "ordering.order-cancelled.v1"),
        ("receive", "ordering.order-placed.v2"),
    }
    assert {message.rpartition("/")[2] for _, message in operations} == document["components"]["messages"].keys()


def test_channels_are_addresses_with_an_environment() -> None:
    channel = asyncapi(sample())["channels"]["ordering.public.orders.v2"]

    assert channel["address"] == "{environment}.ordering.public.orders.v2"
    assert channel["parameters"].keys() == {"environment"}


def test_event_that_stays_in_the_application_is_on_no_channel() -> None:
    assert not any("tree" in name for name in asyncapi(language())["components"]["messages"])


def test_language_without_events_is_valid() -> None:
    assert errors(asyncapi(documents_of_contracts("nothing", []))) == []


def test_unknown_module_is_refused() -> None:
    with pytest.raises(SettingsError, match="use one of ordering, inventory"):
        asyncapi(sample(), module="shipping")
