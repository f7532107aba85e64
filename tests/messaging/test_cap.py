"""The headers of DotNetCore.CAP: its messages are read as our events, and ours carry what it reads."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from contracts import IntegrationEvent, event_topic
from mediator.errors import UnreadableMessageError
from mediator.messaging.cap import cap_headers, from_cap
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.cloudevents import FOREIGN_ID, from_headers

TOPIC = "test.shop.public.orders.v1"


@event_topic("orders", domain="shop")
class OrderPlacedV1(IntegrationEvent):
    total: int


@event_topic("payments", domain="shop", version="")
class Paid(IntegrationEvent):
    pass


@event_topic("payments", domain="shop", version="")
class PaidBack(IntegrationEvent):
    pass


CATALOG = EventCatalog([OrderPlacedV1, Paid, PaidBack], [], "test")
# As CAP 8 writes them.
HEADERS = {
    "cap-msg-id": "6982187391893475328",
    "cap-msg-name": TOPIC,
    "cap-msg-type": "OrderPlaced",
    "cap-senttime": "11/22/2026 10:00:05 +01:00",
    "cap-corr-id": "6982187391893475328",
    "cap-corr-seq": "0",
    "cap-callback-name": "test.shop.public.answers.v1",
    "cap-kafka-key": "Zoë 7",
    "cap-exec-instance-id": "host-1",
}


def test_a_message_of_cap_is_an_event() -> None:
    envelope = from_headers(TOPIC, from_cap(TOPIC, HEADERS, CATALOG), b"{}")

    assert (envelope.type, envelope.version, envelope.source) == ("shop.order-placed", "v1", "/cap")
    assert envelope.headers[FOREIGN_ID] == HEADERS["cap-msg-id"]
    assert envelope.occurred_on == datetime(2026, 11, 22, 9, 0, 5, tzinfo=UTC)
    assert envelope.correlation_id == "6982187391893475328"
    assert envelope.key == "Zoë 7"
    assert envelope.callback == "test.shop.public.answers.v1"
    assert {name: value for name, value in envelope.headers.items() if name.startswith("cap-")} == {
        "cap-msg-name": TOPIC,
        "cap-msg-type": "OrderPlaced",
        "cap-corr-seq": "0",
        "cap-exec-instance-id": "host-1",
    }


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T10:00:05.25+01:00", datetime(2026, 11, 22, 10, 0, 5, 250_000, timezone(timedelta(hours=1)))),
        ("11/22/2026 10:00:05 PM +00:00", datetime(2026, 11, 22, 22, 0, 5, tzinfo=UTC)),
        ("22.11.2026 10:00:05 +01:00", None),
        ("2026-11-22T10:00:05", None),
        ("", None),
    ],
)
def test_the_time_is_read_in_the_forms_that_are_sure(text: str, moment: datetime | None) -> None:
    arrived = datetime(2026, 12, 1, tzinfo=UTC)
    headers = from_cap(TOPIC, {**HEADERS, "cap-senttime": text}, CATALOG)

    assert from_headers(TOPIC, headers, b"{}", arrived=arrived).occurred_on == (moment or arrived)


def test_what_cap_leaves_empty_is_not_there() -> None:
    headers = {**HEADERS, "cap-corr-id": "", "cap-callback-name": "", "cap-kafka-key": ""}
    envelope = from_headers(TOPIC, from_cap(TOPIC, headers, CATALOG), b"{}")

    assert (envelope.correlation_id, envelope.callback, envelope.key) == (None, None, None)


def test_of_contracts_on_one_topic_the_type_tells_which() -> None:
    topic = "test.shop.public.payments"
    headers = {**HEADERS, "cap-msg-name": topic}

    assert from_cap(topic, {**headers, "cap-msg-type": "shop.paid-back"}, CATALOG)["ce-type"] == "shop.paid-back"
    with pytest.raises(UnreadableMessageError, match="cap-msg-name"):
        from_cap(topic, headers, CATALOG)


def test_a_topic_without_a_contract_is_refused() -> None:
    with pytest.raises(UnreadableMessageError, match="'nowhere'") as unreadable:
        from_cap("nowhere", {"cap-msg-id": "1"}, CATALOG)
    assert unreadable.value.reason == "unknown type"


def test_ours_carry_what_cap_reads() -> None:
    row = {
        "event_id": "0199",
        "topic": TOPIC,
        "type": "shop.order-placed",
        "version": "v1",
        "occurred_on": datetime(2026, 11, 22, tzinfo=UTC),
        "correlation_id": "c",
        "partition_key": "k",
    }

    assert cap_headers(row, "answers") == {
        "cap-msg-id": "0199",
        "cap-msg-name": TOPIC,
        "cap-msg-type": "shop.order-placed.v1",
        "cap-senttime": "2026-11-22T00:00:00+00:00",
        "cap-corr-id": "c",
        "cap-corr-seq": "0",
        "cap-callback-name": "answers",
        "cap-kafka-key": "k",
    }
    assert not {"cap-callback-name", "cap-kafka-key"} & cap_headers({**row, "partition_key": None}, None).keys()
