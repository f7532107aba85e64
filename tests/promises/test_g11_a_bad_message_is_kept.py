"""G11: a bad message is parsed once, kept as dead with its bytes and a reason, blocks nothing, loops never."""

import json
from typing import Annotated, Any
from uuid import UUID

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic, uuid7
from mediator import IntegrationEventHandler, MediatorApp
from tests.promises.arrivals import WireTransport, arrive, envelope_of, raw_headers
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import assert_kept
from tests.support import AppFactory, Effect, effects, module_of

pytestmark = pytest.mark.every_database

GROUP, TOPIC, NAME = "shop.depot", "test.depot.public.parcels.v1", "depot.parcel-arrived.v1"
IDENTITY = "0199c1f0-0000-7000-8000-000000000001"


@event_topic("parcels", domain="depot")
class ParcelArrivedV1(IntegrationEvent):
    shelf: Annotated[str, PartitionKey()] = "a"
    weight: int = 0


class Store(IntegrationEventHandler[ParcelArrivedV1]):
    ordering = "key"

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: ParcelArrivedV1) -> None:
        self._session.add(Effect(what="stored", detail=f"{event.weight}"))


def body(**changes: Any) -> bytes:
    return json.dumps({"event_id": IDENTITY, "occurred_on": "2026-01-31T12:00:00Z", "weight": 1, **changes}).encode()


# Body, headers, reason.
BAD: dict[str, tuple[bytes, dict[str, str | None], str]] = {
    "empty": (b"", {}, "json"),
    "no JSON": (b"{shelf: a}", {}, "json"),
    "cut off": (body()[:-5], {}, "json"),
    "no object": (b"[1, 2]", {}, "json"),
    "no UTF-8": (b'{"shelf": "\xff\xfe"}', {}, "encoding"),
    "UTF-16": (body().decode().encode("utf-16"), {}, "encoding"),
    "NaN": (b'{"weight": NaN}', {}, "json"),
    "infinity": (b'{"weight": 1e999}', {}, "json"),
    "key twice": (b'{"weight": 1, "weight": 2}', {}, "json"),
    "NUL": (body(shelf="a\0b"), {}, "text"),
    "lone surrogate": (b'{"shelf": "\\ud800"}', {}, "text"),
    "nested too deep": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, {}, "too"),
    "nested a little too deep": (b'{"a":' * 40 + b"1" + b"}" * 40, {}, "too deep"),
    "too many values": (json.dumps({"a": [0] * 20_000}).encode(), {}, "too many nodes"),
    "too large": (body(shelf="a" * 300_000), {}, "too large"),
    "an integer of 10,000 digits": (b'{"weight": ' + b"9" * 10_000 + b"}", {}, "json"),
    "wrong type of a field": (body(weight="heavy"), {}, "schema"),
    "another id than the headers": (body(event_id=str(uuid7())), {}, "identity"),
    "unknown type": (body(), {"ce_type": "depot.parcel-lost.v1"}, "unknown type"),
    "unknown version": (body(), {"ce_type": "depot.parcel-arrived.v9"}, "unknown type"),
    "the name of a class": (body(), {"ce_type": "os.system"}, "unknown type"),
    "no type": (body(), {"ce_type": None}, "header missing"),
    "a type of strange characters": (body(), {"ce_type": "../../etc/passwd"}, "type"),
    "no id": (body(), {"ce_id": None}, "header missing"),
    "an id that is no UUID": (body(), {"ce_id": "1"}, "identity"),
    "an id that is too long": (body(), {"ce_id": "1" * 201}, "identity"),
    "a time without a zone": (body(), {"ce_time": "2026-01-31T12:00:00"}, "time"),
    "a time outside of all calendars": (body(), {"ce_time": "0001-01-01T00:00:00+14:00"}, "time"),
    "no source": (body(), {"ce_source": None}, "header missing"),
    "another specification": (body(), {"ce_specversion": "0.3"}, "specversion"),
    "a header with a line break": (body(), {"x_note": "a\r\nb"}, "headers"),
    "a header that is too long": (body(), {"x_note": "a" * 2_000}, "headers"),
    "a header of a strange name": (body(), {"x_n\u00f6te": "a"}, "headers"),
    "too many headers": (body(), {f"x_{number}": "a" for number in range(80)}, "headers"),
    "a key of broken percent escapes": (body(), {"ce_partitionkey": "%ff%fe"}, "encoding"),
    "no headers at all": (body(), {"everything": None}, "header missing"),
}


@pytest.mark.timeout(900)
def test_killed_while_burying_and_replaying(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G11", members=2)


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_message_is_kept_once_and_the_others_flow_on(case: str, make_app: AppFactory) -> None:
    raw, changes, reason = BAD[case]
    headers = {} if "everything" in changes else raw_headers(NAME, **{"ce_id": IDENTITY, **changes})
    wire = WireTransport()

    async with make_app(module_of("depot", Store), transport=wire) as app:
        await arrive(app, envelope_of(ParcelArrivedV1(weight=1)))
        for _ in range(3):
            await wire.inject(GROUP, TOPIC, headers, raw)
        await arrive(app, envelope_of(ParcelArrivedV1(weight=2)))
        await app.drained()

        assert await effects(app) == [("stored", "1"), ("stored", "2")]
        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.topic, letter.body) == ("@depot", TOPIC, raw)
        assert letter.reason.startswith(f"unreadable: {reason}")
        assert letter.headers == headers
        assert letter.error_type == "mediator.errors.UnreadableMessageError"
        assert letter.error


async def test_what_the_body_of_an_envelope_hides_is_kept_as_well(make_app: AppFactory) -> None:
    event = ParcelArrivedV1()
    async with make_app(module_of("depot", Store)) as app:
        await arrive(app, envelope_of(event, body=b"not the event"))
        await app.drained()

        assert [letter.body for letter in await app.dead_letters.list()] == [b"not the event"]


async def test_two_bad_messages_are_two_dead_letters(make_app: AppFactory) -> None:
    wire = WireTransport()
    async with make_app(module_of("depot", Store), transport=wire) as app:
        for raw in (b"one", b"other"):
            await wire.inject(GROUP, TOPIC, raw_headers(NAME, ce_id=IDENTITY), raw)

        assert [letter.body for letter in await app.dead_letters.list()] == [b"one", b"other"]


async def test_the_application_is_told_after_it_is_stored(make_app: AppFactory) -> None:
    told: list[bytes] = []
    wire = WireTransport()

    async with make_app(
        module_of("depot", Store), transport=wire, on_dead_letter=lambda letter: told.append(letter.body)
    ) as app:
        for _ in range(2):
            await wire.inject(GROUP, TOPIC, {}, b"bad")
        await app.drained()

    assert told == [b"bad"]


@event_topic("parcels", domain="depot")
class ParcelLostV1(IntegrationEvent):
    shelf: Annotated[str, PartitionKey()] = "a"


class Search(IntegrationEventHandler[ParcelLostV1]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: ParcelLostV1) -> None:
        self._session.add(Effect(what="searched", detail=str(event.event_id)))


class SearchElsewhere(Search):
    pass


async def test_a_replay_succeeds_when_the_contract_is_known(make_app: AppFactory) -> None:
    lost = ParcelLostV1()
    async with make_app(module_of("depot", Store)) as app:
        await arrive(app, envelope_of(lost))
        await replay_the_one_letter(app)
        # Replayed in vain, it is a dead letter again.
        assert len(await app.dead_letters.list()) == 1

    async with make_app(module_of("depot", Store, Search, SearchElsewhere)) as app:
        await replay_the_one_letter(app)
        # And what was taken in that way is known, should the broker deliver it again.
        await arrive(app, envelope_of(lost))
        await app.drained()

        assert await effects(app) == [("searched", str(lost.event_id))] * 2
        assert await app.dead_letters.list() == []


async def replay_the_one_letter(app: MediatorApp) -> None:
    (letter,) = await app.dead_letters.list()
    assert letter.subscriber_id == "@depot"
    await app.dead_letters.replay(letter.position)
    await app.drained()


async def test_a_restart_parses_no_bad_message_again(make_app: AppFactory) -> None:
    modules, identities = module_of("depot", Store), list[UUID]()
    for _ in range(2):
        wire = WireTransport()
        async with make_app(modules, transport=wire) as app:
            await wire.inject(GROUP, TOPIC, {}, b"bad")
            await app.drained()
            identities += [letter.event_id for letter in await app.dead_letters.list()]

    assert len(identities) == 2
    assert len(set(identities)) == 1
