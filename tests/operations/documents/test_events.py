"""What the documents know of each event: where it goes, who makes and receives it, whether it is still current."""

import pytest

from contracts import IntegrationEvent, event_topic, upcaster
from mediator import IntegrationEventConverter, IntegrationEventHandler, MediatorApp
from mediator.domain import DomainEvent
from mediator.errors import SettingsError
from mediator.operations.documents.events import Consumer, EventDocument, Producer, documents_of, documents_of_contracts
from tests.operations.documents.languages import language, sample
from tests.support import module_of


@event_topic("lamps", domain="shop")
class LampLitV1(IntegrationEvent):
    room: str


@event_topic("lamps", domain="shop", version="v2")
class LampLitV2(IntegrationEvent):
    room: str
    colour: str = "white"


@event_topic("switches", domain="shop", internal=True)
class SwitchTurnedV1(IntegrationEvent):
    room: str


class LampLit(DomainEvent):
    pass


class LampLitConverter(IntegrationEventConverter[LampLit, LampLitV1]):
    def convert(self, event: LampLit) -> LampLitV1:
        return LampLitV1(room="hall")


class TurnSwitch(IntegrationEventHandler[LampLitV2]):
    async def handle(self, event: LampLitV2) -> list[SwitchTurnedV1] | None:
        return None


class CountLamps(IntegrationEventHandler[LampLitV1 | LampLitV2]):
    async def handle(self, event: LampLitV1 | LampLitV2) -> None:
        pass


class WatchEverything(IntegrationEventHandler[IntegrationEvent]):
    topics = ("{environment}.shop.internal.#",)

    async def handle(self, event: IntegrationEvent) -> None:
        pass


add_colour = upcaster(LampLitV1, LampLitV2)(lambda data: {**data, "colour": "white"})


def lamps() -> dict[str, EventDocument]:
    modules = [
        module_of("house", LampLit, LampLitConverter),
        module_of("garden", SwitchTurnedV1, TurnSwitch, CountLamps, WatchEverything, add_colour),
    ]
    app = MediatorApp("shop", modules=modules, database="sqlite+aiosqlite:///none.db", environment="test")
    return {event.slug: event for event in documents_of(app.registry).events}


def named(slug: str) -> EventDocument:
    found = language().named(slug)
    assert found is not None
    return found


def test_producers_are_the_modules_whose_converters_make_it() -> None:
    assert lamps()["shop.lamp-lit.v1"].producers == (Producer("house", "LampLitConverter"),)


def test_handler_that_says_it_returns_an_event_produces_it() -> None:
    assert lamps()["shop.switch-turned.v1"].producers == (Producer("garden", "TurnSwitch"),)


def test_consumers_include_those_that_upcasters_lead_to() -> None:
    assert lamps()["shop.lamp-lit.v1"].consumers == (
        Consumer("garden", "garden.count-lamps", "shop.lamp-lit.v1"),
        Consumer("garden", "garden.turn-switch", "shop.lamp-lit.v2"),
    )


def test_consumer_of_a_pattern_receives_what_it_matches() -> None:
    assert lamps()["shop.switch-turned.v1"].consumers == (
        Consumer("garden", "garden.watch-everything", "shop.switch-turned.v1"),
    )


def test_nobody_knows_who_uses_contracts_alone() -> None:
    assert {(event.producers, event.consumers) for event in language().events} == {(None, None)}


def test_older_version_is_superseded() -> None:
    documents = {event.slug: event for event in documents_of_contracts("shop", [LampLitV2, LampLitV1]).events}

    assert [(slug, event.status, event.newer) for slug, event in documents.items()] == [
        ("shop.lamp-lit.v1", "superseded", "shop.lamp-lit.v2"),
        ("shop.lamp-lit.v2", "current", ""),
    ]


def test_deprecation_says_since_when_until_when_and_what_instead() -> None:
    event = named("shipping.parcel-sent.v1")

    assert event.status == "deprecated"
    assert event.status_words == (
        "deprecated from 2026-03-01, not to be counted on from 2026-09-01; use shipping.parcel-sent.v2 instead"
    )


def test_address_leaves_the_environment_open() -> None:
    assert named("shipping.parcel-sent.v2").address == "{environment}.shipping.public.parcels.v2"


def test_summary_is_the_first_paragraph() -> None:
    event = named("shipping.parcel-sent.v1")

    assert event.summary == "A parcel left the house; it is on its way."
    assert event.description.endswith("Sent after the row is committed.")


def test_partition_keys_are_in_their_order() -> None:
    assert named("shipping.parcel-sent.v1").partition_keys == ("tenant", "parcel_id")


def test_sample_is_described_completely() -> None:
    documents = {event.slug: event for event in sample().events}

    assert len(documents) == 14
    placed = documents["ordering.order-placed.v1"]
    assert placed.producers == (Producer("ordering", "OrderPlacedConverter"),)
    assert placed.consumers == (Consumer("inventory", "inventory.reserve-stock", "ordering.order-placed.v1"),)
    assert placed.status_words == "superseded by ordering.order-placed.v2"


def test_two_classes_of_one_name_are_refused() -> None:
    @event_topic("lamps", domain="shop", name="lamp-lit")
    class OtherV1(IntegrationEvent):
        pass

    with pytest.raises(SettingsError, match=r"OtherV1.*both called so|both called so"):
        documents_of_contracts("shop", [LampLitV1, OtherV1])
