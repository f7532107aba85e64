"""Other programs on each broker: what the CloudEvents SDK writes we handle, and what we publish it reads.

The same with CAP's headers. What is no CloudEvent at all gets its headers from a function of the application.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from cloudevents.core.bindings import http, kafka, rabbitmq
from cloudevents.core.v1.event import CloudEvent

from mediator import ForeignSettings, MediatorSettings, MessageContext
from mediator.messaging.transport import Delivery
from tests.consuming.notes import NotedV1, eventually, listener
from tests.support import AppFactory, module_of, quick_settings
from tests.support.brokers import BrokerPlace
from tests.support.foreign import Headers, sending
from tests.support.overheard import Message, overhearing

pytestmark = pytest.mark.databases("postgresql")
TOPIC = "test.bank.public.notes.v1"
MOMENT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Notebook:
    """Remembers what was handled, and what was known of it."""

    def __init__(self) -> None:
        self.notes: list[tuple[NotedV1, MessageContext]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    def module(self) -> Any:
        async def note(handler: Any, event: NotedV1) -> None:
            # What is handled goes from the database.
            await self.is_open.wait()
            self.notes.append((event, handler.context))

        return module_of("mail", listener("Read", note))

    async def filled(self, count: int) -> dict[str, tuple[NotedV1, MessageContext]]:
        await eventually(lambda: len(self.notes) >= count)
        return {event.text: (event, context) for event, context in self.notes}


def foreign(**settings: Any) -> MediatorSettings:
    return quick_settings(foreign=ForeignSettings(**settings))


def event(identity: str, text: str, **attributes: Any) -> CloudEvent:
    known = {"id": identity, "source": "/somebody/ü", "type": "bank.noted.v1", "time": MOMENT}
    return CloudEvent({**known, "datacontenttype": "application/json", **attributes}, {"account": "k", "text": text})


def written(url: str, one: CloudEvent, *, structured: bool) -> tuple[Headers, bytes]:
    """By the SDK, with its binding for this broker, or that for HTTP where there is none."""
    match urlsplit(url).scheme:
        case "kafka":
            record = (kafka.to_structured_event if structured else kafka.to_binary_event)(one)
            return record.headers, record.value
        case "amqp":
            message = (rabbitmq.to_structured_event if structured else rabbitmq.to_binary_event)(one)
            return {**message.headers, "content-type": message.content_type or ""}, message.body
    request = (http.to_structured_event if structured else http.to_binary_event)(one)
    return request.headers, request.body


def read(url: str, message: Message) -> Any:
    match urlsplit(url).scheme:
        case "kafka":
            return kafka.from_kafka_event(kafka.KafkaMessage(dict(message.headers), None, message.body))
        case "amqp":
            headers = {name: str(value) for name, value in message.headers.items()}
            return rabbitmq.from_rabbitmq_event(rabbitmq.RabbitMQMessage(headers, message.content_type, message.body))
    return http.from_http_event(http.HTTPMessage(dict(message.headers), message.body))


async def test_what_the_sdk_writes_is_handled_once(make_app: AppFactory, broker: BrokerPlace) -> None:
    notebook = Notebook()
    extensions = {"correlationid": "c 1", "partitionkey": "Zoë", "tenant": "t"}
    events = [
        event("A-1", "with an id of its own", **extensions),
        event("A-1", "with an id of its own", **extensions),
        event("A-1", "of another source", source="/another"),
        event("01990000-0000-7000-8000-00000000000A", "with a UUID"),
    ]
    async with make_app(notebook.module(), transport=broker.url) as app:
        async with sending(app, broker.url) as send:
            for structured in (False, True):
                for one in events:
                    await send(TOPIC, *written(broker.url, one, structured=structured), "Zoë")
        await notebook.filled(3)
        await app.drained()
        letters = await app.dead_letters.list()

    notes = await notebook.filled(3)
    assert len(notebook.notes) == len(notes) == 3, "in both modes, and twice in each, it is one event"
    assert letters == []
    first, context = notes["with an id of its own"]
    assert (first.account, first.occurred_on, first.correlation_id) == ("k", MOMENT, "c 1")
    assert (context.correlation_id, context.partition_key, context.headers["foreign-id"]) == ("c 1", "Zoë", "A-1")
    assert len({noted.event_id for noted, _ in notes.values()}) == 3
    assert str(notes["with a UUID"][0].event_id) == "01990000-0000-7000-8000-00000000000a"


async def test_what_we_publish_the_sdk_reads(make_app: AppFactory, broker: BrokerPlace) -> None:
    notebook, sent = Notebook(), NotedV1(account="Zoë 7%", text="ours", correlation_id="über 1", occurred_on=MOMENT)
    async with make_app(notebook.module(), transport=broker.url) as app:
        notebook.is_open.clear()
        async with overhearing(app, broker.url, TOPIC) as heard:
            await app.publish_in_own_transaction(sent)
            (message,) = await heard(1)
        notebook.is_open.set()
        await notebook.filled(1)

    found = read(broker.url, message)
    assert (found.get_id(), found.get_type(), found.get_source()) == (str(sent.event_id), "bank.noted.v1", "/shop/mail")
    assert found.get_time() == MOMENT
    assert found.get_datacontenttype() == "application/json"
    assert found.get_extension("partitionkey") == "Zoë 7%"
    assert found.get_extension("correlationid") == "über 1"
    assert found.get_data()["text"] == "ours"


async def test_cap_and_we_read_each_other(make_app: AppFactory, broker: BrokerPlace) -> None:
    notebook, ours = Notebook(), NotedV1(account="k 1", text="ours", occurred_on=MOMENT)
    theirs = {
        "cap-msg-id": "6982187391893475328",
        "cap-msg-name": TOPIC,
        "cap-msg-type": "Noted",
        "cap-senttime": "11/22/2026 10:00:00 +00:00",
        "cap-corr-id": "6982187391893475328",
        "cap-corr-seq": "0",
    }
    async with make_app(notebook.module(), transport=broker.url, settings=foreign(cap_headers=True)) as app:
        notebook.is_open.clear()
        async with overhearing(app, broker.url, TOPIC) as heard:
            await app.publish_in_own_transaction(ours)
            (message,) = await heard(1)
        notebook.is_open.set()
        async with sending(app, broker.url) as send:
            for _ in range(2):
                await send(TOPIC, theirs, b'{"account": "a", "text": "theirs"}', None)
        notes = await notebook.filled(2)
        await app.drained()

    assert len(notebook.notes) == 2
    event, context = notes["theirs"]
    assert (event.occurred_on, event.correlation_id) == (MOMENT, "6982187391893475328")
    assert (context.headers["foreign-id"], context.headers["cap-corr-seq"]) == ("6982187391893475328", "0")
    found = _texts(message.headers)
    assert {name: value for name, value in found.items() if name.startswith("cap-")} == {
        "cap-msg-id": str(ours.event_id),
        "cap-msg-name": TOPIC,
        "cap-msg-type": "bank.noted.v1",
        "cap-senttime": MOMENT.isoformat(),
        "cap-corr-id": notes["ours"][1].correlation_id,
        "cap-corr-seq": "0",
        "cap-kafka-key": "k 1" if urlsplit(broker.url).scheme in {"kafka", "amqp"} else "k%201",
    }


async def test_raw_bodies_get_their_headers_from_the_application(make_app: AppFactory, broker: BrokerPlace) -> None:
    def headers_for(delivery: Delivery) -> Mapping[str, str] | None:
        if delivery.body == b"stranger":
            return None
        number = json.loads(delivery.body)["text"]
        return {"ce-id": f"reading-{number}", "ce-type": "bank.noted.v1", "ce-source": "/sensors"}

    notebook = Notebook()
    async with make_app(notebook.module(), transport=broker.url, settings=foreign(headers_for=headers_for)) as app:
        async with sending(app, broker.url) as send:
            for body in (b'{"text": "1"}', b'{"text": "2"}', b'{"text": "1"}', b"broken", b"stranger"):
                await send(TOPIC, {"sensor": "7"}, body, "k")
            await send(TOPIC, {}, b'{"text": "3"}', "k")
        notes = await notebook.filled(3)
        await app.drained()
        letters = await app.dead_letters.list()

    assert sorted(notes) == ["1", "2", "3"]
    assert len(notebook.notes) == 3
    assert notes["1"][1].headers == {"sensor": "7", "foreign-id": "reading-1"}
    assert (
        notes["1"][1].partition_key == (None if broker.name == "nats" else "k") or notes["1"][1].partition_key is None
    )
    found = {letter.body: letter.reason for letter in letters}
    assert found == {b"broken": "unreadable: foreign", b"stranger": "unreadable: header missing"}


def _texts(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in headers.items()}
