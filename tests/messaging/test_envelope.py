import dataclasses
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mediator.messaging.envelope import Envelope, headers_column

ENVELOPE = Envelope(
    event_id=uuid4(),
    topic="test.shop.public.orders.v1",
    type="shop.order-placed",
    version="v1",
    body=b'{"total":1}',
    occurred_on=datetime.now(UTC),
    source="/shop/ordering",
)


def test_a_row_becomes_the_envelope_that_it_holds() -> None:
    row = {
        "event_id": ENVELOPE.event_id,
        "topic": ENVELOPE.topic,
        "type": ENVELOPE.type,
        "version": ENVELOPE.version,
        "body": memoryview(ENVELOPE.body),
        "occurred_on": ENVELOPE.occurred_on,
        "source": ENVELOPE.source,
        "partition_key": "k",
        "correlation_id": "c",
        "causation_id": "d",
        "traceparent": None,
        "headers": '{"tenant": "é"}',
        "attempts": 2,
    }

    assert Envelope.from_row(row) == dataclasses.replace(
        ENVELOPE, key="k", correlation_id="c", causation_id="d", headers={"tenant": "é"}
    )
    assert Envelope.from_row(row).handed_over == 2


def test_a_row_keeps_headers_callback_and_deprecation_apart() -> None:
    deprecation = {"ce-deprecated": "true", "ce-replacedby": "shop.order-placed.v2"}

    column = headers_column({"tenant": "é"}, "test.shop.public.answers.v1", deprecation)

    names = ("event_id", "topic", "type", "version", "body", "occurred_on", "source")
    row = {name: getattr(ENVELOPE, name) for name in names} | {"headers": column, "attempts": 0}
    rest = dict.fromkeys(("partition_key", "correlation_id", "causation_id", "traceparent"))
    assert Envelope.from_row(row | rest) == dataclasses.replace(
        ENVELOPE, headers={"tenant": "é"}, callback="test.shop.public.answers.v1", deprecation=deprecation
    )


def test_an_envelope_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENVELOPE.topic = "elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ENVELOPE.headers["a"] = "b"  # type: ignore[index]
