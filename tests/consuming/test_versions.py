"""Versions side by side and upcast, from the domain event to the handlers, and what becomes of those that fail."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic, upcaster
from mediator import (
    DomainEvent,
    IntegrationEventConverter,
    IntegrationEventHandler,
    RetryPolicy,
)
from tests.consuming.notes import at_once, listener
from tests.promises.arrivals import arrive, envelope_of
from tests.support import Account, AppFactory, Effect, effects, module_of

# What is read and how does not depend on where it is stored.
pytestmark = pytest.mark.databases("sqlite")


@event_topic("orders", domain="shop", name="order-placed")
class PlacedV1(IntegrationEvent):
    order: Annotated[str, PartitionKey()] = "a"


@event_topic("orders", domain="shop", name="order-placed", version="v2")
class PlacedV2(IntegrationEvent):
    order: Annotated[str, PartitionKey()] = "a"
    currency: str


@event_topic("orders", domain="shop", name="order-placed", version="v3")
class PlacedV3(IntegrationEvent):
    order: Annotated[str, PartitionKey()] = "a"
    price: str


def writes(handler: Any, event: Any) -> None:
    handler.session.add(Effect(what=type(handler).__name__, detail=f"{type(event).__name__} {event.order}"))


def way(function: Callable[[dict[str, Any]], Any]) -> Any:
    return upcaster(PlacedV1, PlacedV2)(function)


class TestSideBySide:
    @staticmethod
    def ordering() -> Any:
        @dataclass(frozen=True)
        class Placed(DomainEvent):
            order: str

        class ToV1(IntegrationEventConverter[Placed, PlacedV1]):
            def convert(self, event: Placed) -> PlacedV1:
                return PlacedV1(order=event.order)

        class ToV2(IntegrationEventConverter[Placed, PlacedV2]):
            def convert(self, event: Placed) -> PlacedV2:
                return PlacedV2(order=event.order, currency="EUR")

        return Placed, module_of("ordering", Placed, ToV1, ToV2)

    async def test_old_and_new_readers_handle_an_order_once_each(self, make_app: AppFactory) -> None:
        placed, ordering = self.ordering()
        stock = module_of("stock", listener("Old", writes, PlacedV1))
        mail = module_of("mail", listener("New", writes, PlacedV2))

        async with make_app(ordering, stock, mail) as app:
            async with app.unit_of_work() as uow:
                account = Account(owner="Ada")
                for order in ("a", "b"):
                    account.record_event(placed(order))
                uow.session.add(account)
            await app.drained()

            found = sorted(await effects(app))
        assert found == [("New", "PlacedV2 a"), ("New", "PlacedV2 b"), ("Old", "PlacedV1 a"), ("Old", "PlacedV1 b")]


class TestUpcasting:
    async def test_several_handlers_of_the_newest_version_share_one_run_of_the_chain(
        self, make_app: AppFactory
    ) -> None:
        calls = list[str]()

        def first(data: dict[str, Any]) -> dict[str, Any]:
            calls.append("first")
            return {**data, "currency": "EUR"}

        def second(data: dict[str, Any]) -> dict[str, Any]:
            calls.append("second")
            return {**data, "price": data["currency"]}

        handlers = [listener(name, writes, PlacedV3) for name in ("One", "Two", "Three")]
        old = listener("Old", writes, PlacedV1)
        stock = module_of("stock", *handlers, old, way(first), upcaster(PlacedV2, PlacedV3)(second))

        async with make_app(stock) as app:
            await app.publish_in_own_transaction(PlacedV1())
            await app.drained()

            found = sorted(await effects(app))
        assert found == [("Old", "PlacedV1 a"), ("One", "PlacedV3 a"), ("Three", "PlacedV3 a"), ("Two", "PlacedV3 a")]
        assert calls == ["first", "second"]

    @pytest.mark.parametrize("attributes", [{}, {"max_batch": 5}, {"blocking": False, "ordering": "none"}])
    @pytest.mark.parametrize("function", [lambda data: None, lambda data: data["missing"], lambda data: {"order": 1}])
    async def test_an_upcaster_that_fails_is_a_dead_letter_at_once(
        self, make_app: AppFactory, function: Any, attributes: dict[str, Any]
    ) -> None:
        calls = list[Any]()

        def counted(data: dict[str, Any]) -> Any:
            calls.append(data)
            return function(data)

        event = PlacedV1()
        new = listener("New", writes, PlacedV2, retry=at_once(5), **attributes)
        old = listener("Old", writes, PlacedV1)

        async with make_app(module_of("stock", new, old, way(counted))) as app:
            await app.publish_in_own_transaction(event)
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert await effects(app) == [("Old", "PlacedV1 a")]
        assert (letter.subscriber_id, letter.attempts, letter.event_id) == ("stock.new", 1, event.event_id)
        assert letter.body == letter_body(event, letter.correlation_id)
        assert letter.error is not None
        assert letter.error.startswith("unreadable message (")
        assert len(calls) == 1

    async def test_a_replay_succeeds_when_the_upcaster_is_mended(self, make_app: AppFactory) -> None:
        new = listener("New", writes, PlacedV2, retry=RetryPolicy.never())
        broken = [True]

        def mended_later(data: dict[str, Any]) -> dict[str, Any]:
            return {} if broken[0] else {**data, "currency": "EUR"}

        async with make_app(module_of("stock", new, way(mended_later))) as app:
            await app.publish_in_own_transaction(PlacedV1())
            await app.drained()
            (letter,) = await app.dead_letters.list()
            broken.clear()
            broken.append(False)
            await app.dead_letters.replay(letter.position)
            await app.drained()

            assert await effects(app) == [("New", "PlacedV2 a")]
            assert await app.dead_letters.list() == []


def letter_body(event: IntegrationEvent, correlation_id: str | None) -> bytes:
    return event.model_copy(update={"correlation_id": correlation_id}).model_dump_json().encode()


class Take(IntegrationEventHandler[PlacedV1]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, event: PlacedV1) -> None:
        self.session.add(Effect(what="taken", detail=event.order))


class TestUnknown:
    async def test_fields_that_nobody_knows_are_ignored_and_counted(self, make_app: AppFactory) -> None:
        event = PlacedV1()
        newer = event.model_dump_json()[:-1].encode() + b', "colour": "red", "size": 1}'

        async with make_app(module_of("stock", Take)) as app:
            await arrive(app, envelope_of(event, body=newer), envelope_of(PlacedV1(order="b")))
            await app.drained()

            assert sorted(await effects(app)) == [("taken", "a"), ("taken", "b")]
            assert app.counters.total("unknown_field_ignored", "shop.order-placed.v1") == 2
            assert app.counters.total("unknown_field_ignored") == 2

    async def test_an_event_is_handled_whatever_counting_meets(
        self, make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_arguments: Any) -> int:
            raise LookupError("a model that nobody foresaw")

        monkeypatch.setattr("mediator.messaging.unknown_fields.UnknownFields.count", fail)

        async with make_app(module_of("stock", Take)) as app:
            await arrive(app, envelope_of(PlacedV1()), envelope_of(PlacedV1(order="b")))
            await app.drained()

            assert sorted(await effects(app)) == [("taken", "a"), ("taken", "b")]

    @pytest.mark.parametrize("changes", [{"version": "v9"}, {"type": "shop.order-lost"}])
    async def test_a_version_or_type_that_nobody_knows_is_kept_with_its_bytes(
        self, make_app: AppFactory, changes: dict[str, str]
    ) -> None:
        envelope = envelope_of(PlacedV1(), **changes)

        async with make_app(module_of("stock", Take)) as app:
            await arrive(app, envelope)
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert await effects(app) == []
        assert (letter.subscriber_id, letter.reason) == ("@stock", "unreadable: unknown type")
        assert letter.body == envelope.body
        assert letter.shown is None
