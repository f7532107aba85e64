"""The headers that the documents promise are those that are written."""

from datetime import UTC, datetime
from uuid import UUID

from jsonschema import Draft7Validator

from contracts import topic_of
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.deprecations import Deprecations
from mediator.messaging.envelope import Envelope
from mediator.observability import Counters
from mediator.operations.documents.headers import HEADERS, headers_of
from tests.operations.documents.languages import ParcelSentV1, sample


def test_every_header_that_is_written_is_promised() -> None:
    deprecations = Deprecations(lambda: datetime(2026, 4, 1, tzinfo=UTC), Counters())
    envelope = Envelope(
        event_id=UUID(int=1), topic="dev.a.public.b.v1", type="a.b", version="v1", body=b"{}", source="/shop/a",
        occurred_on=datetime(2026, 1, 31, tzinfo=UTC), key="k", correlation_id="c", causation_id="d", traceparent="t",
        callback="dev.a.public.c.v1", deprecation=deprecations.published(ParcelSentV1, topic_of(ParcelSentV1)),
    )  # fmt: skip

    headers = to_headers(envelope)

    assert headers.keys() == HEADERS["properties"].keys()
    assert list(Draft7Validator(HEADERS).iter_errors(headers)) == []


def test_required_headers_are_in_every_event() -> None:
    envelope = Envelope(
        event_id=UUID(int=1), topic="dev.a.public.b.v1", type="a.b", version="v1", body=b"{}", source="/shop/a",
        occurred_on=datetime(2026, 1, 31, tzinfo=UTC),
    )  # fmt: skip

    assert sorted(HEADERS["required"]) == sorted(to_headers(envelope))


def test_example_has_the_headers_of_its_event() -> None:
    event = sample().named("ordering.order-placed.v2")
    assert event is not None
    assert event.example is not None

    headers = headers_of(event, "shop")

    assert headers["ce-type"] == "ordering.order-placed.v2"
    assert headers["ce-source"] == "/shop/ordering"
    assert headers["ce-id"] == event.example["event_id"]
    assert headers["ce-partitionkey"] == event.example["order_id"]
