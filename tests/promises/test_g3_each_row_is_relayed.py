"""G3: each committed row gets published or dead, independent of id order, clock and number of relays."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, Outgoing
from mediator.storage.outbox import slot_of
from tests.ledger.forks import KILLED, finish, start
from tests.ledger.journal import read_journal
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import assert_kept
from tests.support import AppFactory, Effect, effects, module_of
from tests.support.databases import execute

pytestmark = pytest.mark.every_database

_MANY, _A_RELAY_LOOKS_BACK_SECONDS = 60, 0.6


@event_topic("notes", domain="office")
class NotedV1(IntegrationEvent):
    text: str


class Keep(IntegrationEventHandler[NotedV1]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: NotedV1) -> None:
        self._session.add(Effect(what="kept", detail=event.text))


@pytest.mark.timeout(900)
def test_killed_in_the_relay(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G3", members=4)


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
async def test_a_row_that_commits_late_with_a_low_position_is_not_skipped(make_app: AppFactory) -> None:
    events = [NotedV1(text=f"{number}") for number in range(_MANY)]
    # All of one slot, because relays keep no account of one slot in another.
    same_slot = [event for event in events if slot_of(None, event.event_id) == slot_of(None, events[0].event_id)]

    async with make_app(module_of("office", Keep)) as app:

        async def publish_elsewhere(event: NotedV1) -> None:
            await app.publish_in_own_transaction(event)
            await app.drained()

        async with app.unit_of_work() as slow:
            slow.publish(same_slot[0])
            # Its row has its position from now on; whatever else comes, comes later and is committed earlier.
            await slow._services.outbox.write(await slow.session.connection(), slow._rows)
            slow._rows.clear()
            for event in same_slot[1:]:
                await asyncio.create_task(publish_elsewhere(event), context=Context())
                await asyncio.sleep(_A_RELAY_LOOKS_BACK_SECONDS)
        await app.drained()

        assert sorted(detail for _, detail in await effects(app)) == sorted(event.text for event in same_slot)


@pytest.mark.databases("sqlite")
async def test_a_row_of_a_lower_position_is_not_skipped(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("office", Keep)) as app:
        # From now on every row gets a position below all that were relayed before.
        execute(
            database_url,
            "CREATE TRIGGER downwards AFTER INSERT ON mediator_outbox "
            "BEGIN UPDATE mediator_outbox SET position = -NEW.position WHERE position = NEW.position; END",
        )
        for number in range(5):
            await app.publish_in_own_transaction(NotedV1(text=f"{number}"))
            await app.drained()
        await app.publish_in_own_transaction(*(NotedV1(text=f"{number}") for number in range(5, 9)))
        await app.drained()

        assert sorted(detail for _, detail in await effects(app)) == [f"{number}" for number in range(9)]


async def test_a_scheduled_row_waits_for_its_time_and_survives_a_restart(
    make_app: AppFactory, database_url: str
) -> None:
    modules = module_of("office", Keep)
    async with make_app(modules) as app:
        await app.publish_in_own_transaction(Outgoing(NotedV1(text="later"), delay=timedelta(hours=1)))
        await app.publish_in_own_transaction(NotedV1(text="now"))
        await app.drained(scheduled=False)
        assert await effects(app) == [("kept", "now")]

    execute(database_url, "UPDATE mediator_outbox SET due_at = 0")
    async with make_app(modules) as app:
        await app.drained()

        assert await effects(app) == [("kept", "now"), ("kept", "later")]


async def test_two_applications_share_one_outbox(make_app: AppFactory) -> None:
    modules = module_of("office", Keep)
    async with make_app(modules) as one, make_app(modules) as other:
        for number in range(10):
            await (one, other)[number % 2].publish_in_own_transaction(NotedV1(text=f"{number}"))
        await one.drained()
        await other.drained()

        assert sorted(detail for _, detail in await effects(one)) == [f"{number}" for number in range(10)]


async def test_the_second_application_takes_over_when_the_first_stops(make_app: AppFactory) -> None:
    modules = module_of("office", Keep)
    first, second = make_app(modules), make_app(modules)
    async with first:
        await first.publish_in_own_transaction(NotedV1(text="by the first"))
        await first.drained()
        await second.__aenter__()
    try:
        await second.publish_in_own_transaction(NotedV1(text="by the second"))
        await second.drained()

        assert await effects(second) == [("kept", "by the first"), ("kept", "by the second")]
    finally:
        await second.__aexit__(None, None, None)


def test_a_second_process_takes_the_relay_over_when_the_first_is_killed(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()
    first = start(replace(campaign.next_run(), linger=True))
    wait_until(lambda: relayed(campaign.url) > 0)
    second_run = campaign.next_run()
    second = start(second_run)
    its_own = next(second_run.batches())
    wait_until(lambda: any(intent in its_own for intent in read_journal(campaign.folder)))
    first.kill()

    assert finish(first) == KILLED
    assert finish(second) == 0
    assert campaign.verdict() == [], campaign.story()


@pytest.mark.parametrize("headers", ["no JSON", "[]", '{"a": 1}'])
async def test_a_row_that_cannot_be_read_dies_alone(headers: str, make_app: AppFactory, database_url: str) -> None:
    modules = module_of("office", Keep)
    async with make_app(modules) as app:
        events = [NotedV1(text=f"{number}") for number in range(3)]
        await app.publish_in_own_transaction(*(Outgoing(event, delay=timedelta(hours=1)) for event in events))
    execute(database_url, f"UPDATE mediator_outbox SET headers = '{headers}' WHERE position = 2")
    execute(database_url, "UPDATE mediator_outbox SET due_at = 0")

    async with make_app(modules) as app:
        await app.drained()

        assert sorted(detail for _, detail in await effects(app)) == ["0", "2"]
        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.event_id) == ("@outbox", events[1].event_id)


def relayed(url: str) -> int:
    return int(execute(url, "SELECT count(*) FROM mediator_sent")[0][0])


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again until it is so; the test's timeout ends what never comes."""
    while not condition():
        time.sleep(0.01)
