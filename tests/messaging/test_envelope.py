import dataclasses
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mediator.messaging.envelope import Envelope

ENVELOPE = Envelope(
    event_id=uuid4(),
    topic="test.shop.public.orders.v1",
    type="shop.order-placed",
    version="v1",
    body=b'{"total":1}',
    occurred_on=datetime.now(UTC),
    source="/shop/ordering",
)


def test_the_hash_is_of_the_content_only() -> None:
    other = dataclasses.replace(ENVELOPE, event_id=uuid4(), topic="elsewhere", key="k", headers={"a": "b"})

    assert other.payload_hash == ENVELOPE.payload_hash
    assert len(ENVELOPE.payload_hash) == 16


@pytest.mark.parametrize(
    "change", [{"body": b'{"total":2}'}, {"version": "v2"}, {"version": ""}, {"type": "shop.order-paid"}]
)
def test_the_hash_differs_with_the_content(change: dict[str, str | bytes]) -> None:
    assert dataclasses.replace(ENVELOPE, **change).payload_hash != ENVELOPE.payload_hash  # type: ignore[arg-type]


def test_the_hash_tells_where_type_and_version_end() -> None:
    one = dataclasses.replace(ENVELOPE, type="a", version="v1", body=b"x")
    other = dataclasses.replace(ENVELOPE, type="av1", version="", body=b"x")

    assert one.payload_hash != other.payload_hash


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
    }

    assert Envelope.from_row(row) == dataclasses.replace(
        ENVELOPE, key="k", correlation_id="c", causation_id="d", headers={"tenant": "é"}
    )


def test_an_envelope_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENVELOPE.topic = "elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ENVELOPE.headers["a"] = "b"  # type: ignore[index]
