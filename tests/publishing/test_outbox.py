"""What a receiver would refuse is refused where it is published, and the unit of work rolls back."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic, partition_key_of
from mediator import IntegrationEventHandler, MessageContext, Outgoing, RetryPolicy
from mediator.errors import EventRefusedError
from mediator.messaging.limits import Limits
from mediator.storage.columns import milliseconds
from tests.consuming.notes import NotedV1, listener, writes
from tests.publishing.bank import FactV1, KeyedV1, facts, published
from tests.storage.rows import stored
from tests.support import Account, AppFactory, Effect, effects, module_of, quick_settings
from tests.support.transports import ScriptedTransport

LIMITS = Limits()


@event_topic("values", domain="bank")
class ValuesV1(IntegrationEvent):
    number: float = 0
    decimal: Decimal = Decimal(0)
    texts: dict[str, str] = Field(default_factory=dict)


class NoTopic(IntegrationEvent):
    pass


@event_topic("t" * 248, domain="bank")
class LongTopicV1(IntegrationEvent):
    pass


@event_topic("whole-days", domain="bank")
class DayV1(IntegrationEvent):
    key: Annotated[UUID | str, PartitionKey()]


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("too large", lambda: FactV1(what="x" * LIMITS.body_bytes), "too large"),
    ("NUL", lambda: FactV1(what="a\0b"), "NUL in a string"),
    ("NUL in a key", lambda: ValuesV1(texts={"a\0": ""}), "NUL in a string"),
    ("too many values", lambda: ValuesV1(texts={str(n): "" for n in range(LIMITS.nodes)}), "too many nodes"),
    ("lone surrogate", lambda: FactV1.model_construct(what="\ud800"), ""),
    ("NaN", lambda: ValuesV1(number=1).model_copy(update={"number": float("nan")}), ""),
    ("infinity", lambda: ValuesV1(number=1).model_copy(update={"number": float("inf")}), ""),
    ("NaN as decimal", lambda: ValuesV1().model_copy(update={"decimal": Decimal("NaN")}), ""),
    ("another id", lambda: FactV1(what="").model_copy(update={"event_id": "no id"}), ""),
    ("no topic", NoTopic, "Decorate it with @event_topic"),
    ("address too long", LongTopicV1, "249 are allowed"),
    ("no event", lambda: "a text", "it is no IntegrationEvent"),
    ("a wrapped text", lambda: Outgoing("a text"), "it is no IntegrationEvent"),
    ("empty correlation id", lambda: FactV1(what="", correlation_id=""), "correlation id"),
    ("long correlation id", lambda: FactV1(what="", correlation_id="c" * 201), "correlation id"),
    ("unprintable correlation id", lambda: FactV1(what="", correlation_id="c\n"), "correlation id"),
    ("empty key", lambda: Outgoing(FactV1(what=""), key=""), "partition key"),
    ("long key", lambda: Outgoing(FactV1(what=""), key="k" * 201), "partition key"),
    ("NUL in the key", lambda: Outgoing(FactV1(what=""), key="a\0"), "partition key"),
    ("line break in the key", lambda: Outgoing(FactV1(what=""), key="a\nb"), "partition key"),
    ("lone surrogate in the key", lambda: Outgoing(FactV1(what=""), key="\ud800"), "partition key"),
    ("empty topic", lambda: Outgoing(FactV1(what=""), topic=""), "topic ''"),
    ("topic with a space", lambda: Outgoing(FactV1(what=""), topic="a b"), "topic 'a b'"),
    ("topic not ASCII", lambda: Outgoing(FactV1(what=""), topic="ä"), "printable ASCII"),
    ("long topic", lambda: Outgoing(FactV1(what=""), topic="t" * 250), "Use 1 to 249"),
    ("empty callback", lambda: Outgoing(FactV1(what=""), callback=""), "callback ''"),
    ("callback with a space", lambda: Outgoing(FactV1(what=""), callback="a b"), "callback 'a b'"),
    ("callback without topic", lambda: Outgoing(FactV1(what=""), callback=IntegrationEvent), "states no topic"),
    ("callback by hand", lambda: Outgoing(FactV1(what=""), headers={"ce-callback": "x"}), "reserved"),
    ("too many headers", lambda: Outgoing(FactV1(what=""), headers={f"h{n}": "" for n in range(65)}), "65 of them"),
    ("long header", lambda: Outgoing(FactV1(what=""), headers={"h": "x" * 1025}), "exceeds 1024 bytes"),
    ("long header name", lambda: Outgoing(FactV1(what=""), headers={"h" * 65: ""}), "too long"),
    ("empty header name", lambda: Outgoing(FactV1(what=""), headers={"": ""}), "empty"),
    ("header with a line break", lambda: Outgoing(FactV1(what=""), headers={"h": "a\r\nb: c"}), "control characters"),
    ("header with a surrogate", lambda: Outgoing(FactV1(what=""), headers={"h": "\ud800"}), "lone surrogates"),
    ("header that is a number", lambda: Outgoing(FactV1(what=""), headers={"h": 1}), "not text"),  # type: ignore[dict-item]
    ("reserved header", lambda: Outgoing(FactV1(what=""), headers={"ce-id": "x"}), "reserved"),
    ("content type", lambda: Outgoing(FactV1(what=""), headers={"content-type": "x"}), "reserved"),
    ("upper case", lambda: Outgoing(FactV1(what=""), headers={"Tenant": "x"}), "lower case"),
    ("a delay beyond all time", lambda: Outgoing(FactV1(what=""), delay=timedelta.min), "delay"),
    ("a delay beyond time", lambda: Outgoing(FactV1(what=""), delay=timedelta.max), "delay"),
]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(("make", "what"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_cannot_be_read_is_refused_and_rolls_back(
    make_app: AppFactory, database_url: str, make: Callable[[], Any], what: str
) -> None:
    async with make_app(module_of("bank")) as app:
        with pytest.raises(EventRefusedError) as refused:  # noqa: PT012 - the block is the unit of work
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what="never"))
                uow.publish(FactV1(what="never"))
                uow.publish(make())

        assert what in str(refused.value)
        assert refused.value.fix in str(refused.value)
        assert await facts(app, database_url) == []
        assert await effects(app) == []


LARGE: dict[str, Callable[[], Outgoing[FactV1]]] = {
    "body": lambda: Outgoing(FactV1(what="x" * (LIMITS.body_bytes - 200))),
    "key": lambda: Outgoing(FactV1(what=""), key="k" * 200),
    "correlation id": lambda: Outgoing(FactV1(what="", correlation_id="c" * 200)),
    "header": lambda: Outgoing(FactV1(what=""), headers={"h" * 64: "x" * LIMITS.header_value_bytes}),
    "many headers": lambda: Outgoing(FactV1(what=""), headers={f"h{number}": "x" for number in range(50)}),
    "texts": lambda: Outgoing(FactV1(what="😀"), headers={"h": "Zoë 😀 %41"}, key="ключ 😀 |%"),
}
LARGER: dict[str, Callable[[], Outgoing[FactV1]]] = {
    "key of long characters": lambda: Outgoing(FactV1(what=""), key="😀" * 200),
    "correlation id of long characters": lambda: Outgoing(FactV1(what="", correlation_id="😀" * 200)),
    "all headers": lambda: Outgoing(FactV1(what=""), headers={f"h{n}": "x" for n in range(LIMITS.headers)}),
    "header of long characters": lambda: Outgoing(FactV1(what=""), headers={"h": "é" * 512}),
    "header of spaces": lambda: Outgoing(FactV1(what=""), headers={"h": " " * 1024}),
}


def receiving(expected: Outgoing[FactV1]) -> type[Any]:
    class Receive(IntegrationEventHandler[FactV1]):
        def __init__(self, session: AsyncSession, context: MessageContext) -> None:
            self.session, self.context = session, context

        async def handle(self, event: FactV1) -> None:
            assert event.what == expected.event.what
            assert self.context.headers == expected.headers
            assert self.context.partition_key == expected.key
            self.session.add(Effect(what="received"))

    return Receive


@pytest.mark.parametrize("name", LARGE)
async def test_what_is_within_the_limits_is_handled(make_app: AppFactory, name: str) -> None:
    outgoing = LARGE[name]()
    async with make_app(module_of("bank"), module_of("mail", receiving(outgoing))) as app:
        await app.publish_in_own_transaction(outgoing)
        await app.drained()

        assert await app.dead_letters_of("mail").list() == []
        assert await effects(app) == [("received", "")]


@pytest.mark.parametrize("name", LARGER)
async def test_what_grows_on_the_wire_is_handled_or_refused_at_once(make_app: AppFactory, name: str) -> None:
    outgoing = LARGER[name]()
    async with make_app(module_of("bank"), module_of("mail", receiving(outgoing))) as app:
        refused = False
        try:
            await app.publish_in_own_transaction(outgoing)
        except EventRefusedError:
            refused = True
        await app.drained()

        assert await app.dead_letters_of("mail").list() == []
        assert await effects(app) == ([] if refused else [("received", "")])


async def test_the_row_is_what_travels(make_app: AppFactory, database_url: str) -> None:
    event = KeyedV1(key="order-1", what="é", occurred_on=datetime(2026, 1, 31, 12, 0, 0, 123_000, UTC))
    async with make_app(module_of("bank")) as app:
        await app.publish_in_own_transaction(Outgoing(event, headers={"tenant": "acme"}))
        (row,) = await published(app, database_url)

    assert (row["event_id"], row["partition_key"], row["occurred_on"]) == (
        event.event_id,
        "order-1",
        event.occurred_on,
    )
    assert (row["topic"], row["type"], row["version"]) == ("test.bank.public.keyed-facts.v1", "bank.keyed", "v1")
    assert json.loads(row["headers"]) == {"tenant": "acme"}
    assert KeyedV1.model_validate_json(row["body"]) == event.model_copy(
        update={"correlation_id": row["correlation_id"]}
    )


async def test_an_event_keeps_the_correlation_id_that_it_has(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        async with app.unit_of_work(correlation_id="of the request") as uow:
            uow.publish(FactV1(what="own", correlation_id="of its own"), FactV1(what="taken"))
        own, taken = await published(app, database_url)

    assert own["correlation_id"] == json.loads(own["body"])["correlation_id"] == "of its own"
    assert taken["correlation_id"] == json.loads(taken["body"])["correlation_id"] == "of the request"


async def test_an_empty_key_is_a_key_like_any_other(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        await app.publish_in_own_transaction(KeyedV1(key=""))
        (row,) = await published(app, database_url)

    assert row["partition_key"] == partition_key_of(KeyedV1(key=""))


async def test_a_key_is_canonical(make_app: AppFactory, database_url: str) -> None:
    identity = uuid4()
    async with make_app(module_of("bank")) as app:
        await app.publish_in_own_transaction(DayV1(key=identity), Outgoing(DayV1(key=identity), key="mine"))
        of_the_contract, of_the_sender = await published(app, database_url)

    assert of_the_contract["partition_key"] == str(identity)
    assert of_the_sender["partition_key"] == "mine"


async def test_rows_are_inserted_last_and_in_the_order_of_publication(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    transport.may_answer.clear()
    settings = quick_settings(relay={"poll": timedelta(milliseconds=20), "ramp_patience": timedelta(0)})
    async with make_app(module_of("bank"), transport=transport, settings=settings) as app:
        async with app.unit_of_work() as uow:
            for number in range(5):
                uow.publish(FactV1(what=str(number)))
                uow.session.add(Account(owner=str(number)))
                await uow.session.flush()
                connection = await uow.session.connection()
                count = await connection.exec_driver_sql("SELECT count(*) FROM mediator_outbox")
                assert count.scalar() == 0
        rows = await stored(database_url, "outbox")

    assert [json.loads(row["body"])["what"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)


async def test_one_event_published_twice_is_sent_twice_and_handled_once(
    make_app: AppFactory, database_url: str
) -> None:
    class Receive(IntegrationEventHandler[FactV1]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: FactV1) -> None:
            self.session.add(Effect(what=event.what))

    event = FactV1(what="twice")
    async with make_app(module_of("bank"), module_of("mail", Receive)) as app:
        await app.publish_in_own_transaction(event, event)
        await app.drained()

        assert await effects(app) == [("twice", "")]
        assert app.counters.total("duplicate_skipped") == 1
        assert len(await stored(database_url, "sent")) == 1
        assert await stored(database_url, "outbox") == []


def test_a_delay_is_counted_in_milliseconds() -> None:
    assert milliseconds(timedelta(seconds=1, microseconds=1_600)) == 1_002


async def test_more_events_at_once_than_anybody_wants_in_memory_are_refused(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank")) as app:
        with pytest.raises(EventRefusedError, match=r"FactV1 .*number 5,001 of .*, and 5,000 are allowed"):
            await app.publish_in_own_transaction(*(FactV1(what=str(number)) for number in range(10_000)))

        assert await stored(database_url, "outbox") == []
        await app.publish_in_own_transaction(*(FactV1(what=str(number)) for number in range(5_000)))


async def test_what_a_savepoint_took_back_does_not_count(make_app: AppFactory) -> None:
    settings = quick_settings(limits={"published_at_once": 3})
    async with make_app(module_of("bank"), settings=settings) as app, app.unit_of_work() as uow:
        uow.publish(FactV1(what="1"), FactV1(what="2"))
        with suppress(LookupError):
            async with uow.savepoint():
                uow.publish(FactV1(what="3"))
                raise LookupError("back")
        uow.publish(FactV1(what="3"))
        with pytest.raises(EventRefusedError, match="number 4 of its unit of work"):
            uow.publish(FactV1(what="4"))


async def test_ten_thousand_events_out_of_one_handler_are_refused(make_app: AppFactory) -> None:
    def react(handler: Any, event: NotedV1) -> list[FactV1]:
        writes(handler, event)
        return [FactV1(what=str(number)) for number in range(10_000)]

    handler = listener("Flood", react, retry=RetryPolicy.never())
    async with make_app(module_of("mail", handler)) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        (letter,) = await app.dead_letters.list()
        assert letter.error is not None
        assert "number 5,001 of its unit of work" in letter.error
        assert await effects(app) == []
