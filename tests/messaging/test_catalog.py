"""The catalog finds a class by the names of what the application registered, and by nothing else."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from contracts import IntegrationEvent, event_topic, upcaster
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog, Received, content_hash
from mediator.messaging.envelope import Envelope
from mediator.messaging.limits import Limits


@event_topic("orders", domain="shop", version="v1", name="order-placed")
class OrderPlacedV1(IntegrationEvent):
    total: int


@event_topic("orders", domain="shop", version="v2", name="order-placed")
class OrderPlacedV2(IntegrationEvent):
    total: int
    currency: str


@event_topic("orders", domain="shop", version="v3", name="order-placed")
class OrderPlacedV3(IntegrationEvent):
    amount: str


@event_topic("payments", domain="shop", version="")
class Paid(IntegrationEvent):
    pass


@event_topic("renamed", domain="shop")
class RenamedV1(IntegrationEvent):
    model_config = ConfigDict(alias_generator=to_camel)  # type: ignore[pydantic-alias]


@upcaster(OrderPlacedV1, OrderPlacedV2)
def add_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


@upcaster(OrderPlacedV2, OrderPlacedV3)
def join_amount(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "amount": f"{data.pop('total')} {data.pop('currency')}"}


CATALOG = EventCatalog([OrderPlacedV1, OrderPlacedV2, OrderPlacedV3, Paid], [add_currency, join_amount], "test")


def envelope_of(event: IntegrationEvent, version: str = "v1", **changes: Any) -> Envelope:
    envelope = Envelope(
        event_id=event.event_id,
        topic="test.shop.public.orders.v1",
        type="shop.order-placed",
        version=version,
        body=event.model_dump_json().encode(),
        occurred_on=datetime.now(UTC),
        source="/shop/ordering",
    )
    return dataclasses.replace(envelope, **changes)


def received(envelope: Envelope) -> Received:
    return Received(envelope, CATALOG, Limits())


def test_an_event_is_read_as_the_class_that_it_was_published_as() -> None:
    event = OrderPlacedV1(total=3)

    assert received(envelope_of(event)).as_class(OrderPlacedV1) == event


def test_an_old_version_is_read_as_a_newer_one_through_every_step() -> None:
    event = OrderPlacedV1(total=3, correlation_id="c")
    read = received(envelope_of(event))

    assert read.as_class(OrderPlacedV2) == OrderPlacedV2(**{**event.model_dump(), "currency": "EUR"})
    assert read.as_class(OrderPlacedV3) == OrderPlacedV3(
        event_id=event.event_id, occurred_on=event.occurred_on, correlation_id="c", amount="3 EUR"
    )


def test_each_class_is_read_once_and_upcasters_do_not_disturb_each_other() -> None:
    read = received(envelope_of(OrderPlacedV2(total=3, currency="USD"), "v2"))

    newest = read.as_class(OrderPlacedV3)

    assert read.as_class(OrderPlacedV3) is newest
    assert read.as_class(OrderPlacedV2) == OrderPlacedV2(
        event_id=newest.event_id, occurred_on=newest.occurred_on, total=3, currency="USD"
    )


def test_there_is_no_way_back_and_none_to_another_event() -> None:
    newest = received(envelope_of(OrderPlacedV3(amount="1 EUR"), "v3"))

    assert not newest.readable_as(OrderPlacedV2)
    assert not newest.readable_as(Paid)
    assert newest.readable_as(OrderPlacedV3)
    assert received(envelope_of(OrderPlacedV1(total=1))).readable_as(OrderPlacedV3)


def test_entries_know_their_addresses() -> None:
    assert {entry.event_class: entry.address for entry in CATALOG} == {
        OrderPlacedV1: "test.shop.public.orders.v1",
        OrderPlacedV2: "test.shop.public.orders.v2",
        OrderPlacedV3: "test.shop.public.orders.v3",
        Paid: "test.shop.public.payments",
    }
    assert CATALOG.type_of(Paid) is not None
    assert CATALOG.type_of(IntegrationEvent) is None


@pytest.mark.parametrize(
    ("changes", "reason", "where"),
    [
        ({"type": "shop.unknown"}, "unknown type", "ce-type"),
        ({"version": "v9"}, "unknown type", "ce-type"),
        ({"type": "builtins.eval", "version": ""}, "unknown type", "ce-type"),
        ({"event_id": uuid4()}, "identity", "event_id"),
        ({"body": b"no json"}, "json", "character 0"),
        ({"headers": {"a": "\n"}}, "headers", "header 'a'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(changes: dict[str, Any], reason: str, where: str) -> None:
    with pytest.raises(UnreadableMessageError) as unreadable:
        received(envelope_of(OrderPlacedV1(total=3), **changes))
    assert (unreadable.value.reason, unreadable.value.where) == (reason, where)


def test_a_value_that_does_not_fit_is_named_with_its_path_and_not_shown() -> None:
    event = OrderPlacedV1(total=3)
    body = json.dumps({**json.loads(event.model_dump_json()), "total": "secret", "occurred_on": 1}).encode()

    with pytest.raises(UnreadableMessageError, match=r"\(and 1 more\)|total|occurred_on") as unreadable:
        received(envelope_of(event, body=body))
    assert unreadable.value.reason == "schema"
    assert unreadable.value.where in {"total", "occurred_on"}
    assert "secret" not in str(unreadable.value)


def test_what_a_body_of_others_lacks_comes_from_the_headers() -> None:
    envelope = dataclasses.replace(envelope_of(OrderPlacedV1(total=3), body=b'{"total": 3}'), correlation_id="c")

    event = received(envelope).as_class(OrderPlacedV1)

    assert (event.event_id, event.occurred_on) == (envelope.event_id, envelope.occurred_on)
    assert event.correlation_id == "c"


def test_a_name_of_its_own_is_not_taken_for_missing() -> None:
    event, catalog = RenamedV1(), EventCatalog([RenamedV1], [], "test")
    assert '"eventId"' in event.model_dump_json()

    assert Received(envelope_of(event, type="shop.renamed"), catalog, Limits()).as_class(RenamedV1) == event


DATA: dict[str, Any] = {"total": 1, "lines": [{"sku": "a"}], "correlation_id": "c"}
ENVELOPE = envelope_of(OrderPlacedV1(total=3))


@pytest.mark.parametrize(
    "same",
    [
        (ENVELOPE, {"lines": [{"sku": "a"}], "correlation_id": "c", "total": 1}),
        (ENVELOPE, {**DATA, "correlation_id": "of another occasion"}),
        (dataclasses.replace(ENVELOPE, event_id=uuid4(), topic="elsewhere", key="k", headers={"a": "b"}), DATA),
    ],
)
def test_the_hash_is_of_the_content_only(same: tuple[Envelope, dict[str, Any]]) -> None:
    assert content_hash(*same) == content_hash(ENVELOPE, DATA)
    assert len(content_hash(ENVELOPE, DATA)) == 16


@pytest.mark.parametrize(
    "other",
    [
        (ENVELOPE, {**DATA, "total": 2}),
        (ENVELOPE, {**DATA, "total": "1"}),
        (ENVELOPE, {**DATA, "more": None}),
        (ENVELOPE, {**DATA, "lines": []}),
        (dataclasses.replace(ENVELOPE, version="v2"), DATA),
        (dataclasses.replace(ENVELOPE, version=""), DATA),
        (dataclasses.replace(ENVELOPE, type="shop.order-paid"), DATA),
        (dataclasses.replace(ENVELOPE, type="shop.order-placedv1", version=""), DATA),
    ],
)
def test_the_hash_differs_with_the_content(other: tuple[Envelope, dict[str, Any]]) -> None:
    assert content_hash(*other) != content_hash(ENVELOPE, DATA)
