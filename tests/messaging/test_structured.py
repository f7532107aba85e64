"""Structured mode: a whole event as one JSON document, read as if it had come with headers."""

import dataclasses
import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given

from mediator.errors import UnreadableMessageError
from mediator.messaging.cloudevents import from_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.limits import Limits
from mediator.messaging.structured import STRUCTURED, from_document, is_structured, to_document
from tests.messaging.test_cloudevents import ENVELOPE, ENVELOPES

DOCUMENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "A-1",
    "source": "/somebody",
    "type": "shop.order-placed.v1",
    "data": {"total": 3},
}


def read(document: dict[str, Any] | bytes, **headers: str) -> Envelope:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    found, data = from_document({"content-type": STRUCTURED, **headers}, body, Limits())
    return from_headers("topic", found, data, arrived=ENVELOPE.occurred_on)


@given(ENVELOPES)
def test_what_we_write_is_what_we_read(envelope: Envelope) -> None:
    sent = dataclasses.replace(envelope, body=b'{"total":3}', topic="topic", headers={})

    assert read(to_document(sent)) == sent


def test_the_document_is_that_of_cloudevents() -> None:
    envelope = dataclasses.replace(ENVELOPE, headers={"tenant": "Zoë", "x-own": "not a name there"}, body=b'{"a":1}')

    assert json.loads(to_document(envelope)) == {
        "specversion": "1.0",
        "id": "01990000-0000-7000-8000-000000000001",
        "source": "/shop/ordering",
        "type": "shop.order-placed.v1",
        "time": "2026-01-31T12:30:00+00:00",
        "partitionkey": "order 1",
        "correlationid": "c-1",
        "tenant": "Zoë",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }


def test_attributes_are_texts_numbers_and_truths() -> None:
    found, _ = from_document(
        {}, json.dumps({**DOCUMENT, "number": 7, "truth": True, "nothing": None}).encode(), Limits()
    )

    assert (found["ce-number"], found["ce-truth"]) == ("7", "true")
    assert "ce-nothing" not in found


def test_data_may_be_bytes_in_base64() -> None:
    document = {name: value for name, value in DOCUMENT.items() if name != "data"}
    data = b'{"total": 3, "name": "Zo\xc3\xab"}'

    assert read({**document, "data_base64": b64encode(data).decode()}).body == data


def test_the_document_decides_what_headers_say_as_well() -> None:
    document = {name: value for name, value in DOCUMENT.items() if name != "partitionkey"}

    envelope = read(document, **{"ce-id": "another", "ce-partitionkey": "a key", "tenant": "t"})

    assert envelope.headers == {"foreign-id": "A-1", "tenant": "t"}
    assert envelope.key is None


@pytest.mark.parametrize(
    ("changes", "reason", "where"),
    [
        ({"id": None}, "header missing", "ce-id"),
        ({"id": ""}, "identity", "ce-id"),
        ({"specversion": 1}, "specversion", "ce-specversion"),
        ({"type": ["a"]}, "headers", "type"),
        ({"tenant": {"a": 1}}, "headers", "tenant"),
        ({"number": 1.5}, "headers", "number"),
        ({"time": "yesterday"}, "time", "ce-time"),
        ({"data_base64": "e30="}, "json", "data_base64"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], reason: str, where: str) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        read({**DOCUMENT, **changes})
    assert (unreadable.value.reason, unreadable.value.where) == (reason, where)


@pytest.mark.parametrize("data", ["***", "e30", 5, None, ["e30="]])
def test_so_is_base64_that_is_none(data: Any) -> None:
    document = {name: value for name, value in DOCUMENT.items() if name != "data"}

    with pytest.raises(UnreadableMessageError) as unreadable:
        read({**document, "data_base64": data})
    assert (unreadable.value.reason, unreadable.value.where) == ("encoding", "data_base64")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"id": 1, "id": 2}', b'{"data": NaN}'])
def test_a_document_is_read_as_strictly_as_a_body(body: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        read(body)


@pytest.mark.parametrize("content_type", [STRUCTURED, f"{STRUCTURED}; charset=utf-8", STRUCTURED.upper()])
def test_the_content_type_tells(content_type: str) -> None:
    assert is_structured({"content-type": content_type})


@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain"])
def test_others_are_left_alone(content_type: str) -> None:
    assert not is_structured({"content-type": content_type})
    assert not is_structured({})


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_forms_that_are_not_read_are_refused_by_name(content_type: str) -> None:
    with pytest.raises(UnreadableMessageError, match=content_type.replace("+", r"\+")):
        is_structured({"content-type": content_type})
