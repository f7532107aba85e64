"""G3: each committed row gets published or dead, independent of id order, clock and number of relays."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, Outgoing
from tests.ledger.forks import KILLED, finish, start
from tests.ledger.journal import read_journal
from tests.ledger.tables import database_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import PLACES, assert_kept
from tests.support import AppFactory, Effect, effects, module_of


@event_topic("notes", domain="office")
class NotedV1(IntegrationEvent):
    text: str


class Keep(IntegrationEventHandler[NotedV1]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: NotedV1) -> None:
        self._session.add(Effect(what="kept", detail=event.text))


@pytest.mark.parametrize("place", PLACES["G3"])
def test_killed_in_the_relay(place: str, new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), place)


async def test_a_row_that_commits_late_with_a_low_position_is_not_skipped(make_app: AppFactory, tmp_path: Path) -> None:
    async with make_app(module_of("office", Keep)) as app:
        # From now on every row gets a position below all that were relayed before.
        run(
            tmp_path,
            "CREATE TRIGGER downwards AFTER INSERT ON mediator_outbox "
            "BEGIN UPDATE mediator_outbox SET position = -NEW.position WHERE position = NEW.position; END",
        )
        for number in range(5):
            await app.publish_in_own_transaction(NotedV1(text=f"{number}"))
            await app.drained()
        await app.publish_in_own_transaction(*(NotedV1(text=f"{number}") for number in range(5, 9)))
        await app.drained()

        assert sorted(detail for _, detail in await effects(app)) == [f"{number}" for number in range(9)]


async def test_a_scheduled_row_waits_for_its_time_and_survives_a_restart(make_app: AppFactory, tmp_path: Path) -> None:
    modules = module_of("office", Keep)
    async with make_app(modules) as app:
        await app.publish_in_own_transaction(Outgoing(NotedV1(text="later"), delay=timedelta(hours=1)))
        await app.publish_in_own_transaction(NotedV1(text="now"))
        await app.drained(scheduled=False)
        assert await effects(app) == [("kept", "now")]

    run(tmp_path, "UPDATE mediator_outbox SET due_at = 0")
    async with make_app(modules) as app:
        await app.drained()

        assert await effects(app) == [("kept", "now"), ("kept", "later")]


async def test_two_applications_share_one_file(make_app: AppFactory) -> None:
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
    wait_until(lambda: relayed(campaign.folder) > 0)
    second_run = campaign.next_run()
    second = start(second_run)
    wait_until(lambda: any(intent in second_run.intents for intent in read_journal(campaign.folder)))
    first.kill()

    assert finish(first) == KILLED
    assert finish(second) == 0
    assert campaign.verdict() == [], campaign.story()


async def test_a_row_that_cannot_be_read_dies_alone(make_app: AppFactory, tmp_path: Path) -> None:
    modules = module_of("office", Keep)
    async with make_app(modules) as app:
        events = [NotedV1(text=f"{number}") for number in range(3)]
        await app.publish_in_own_transaction(*(Outgoing(event, delay=timedelta(hours=1)) for event in events))
    run(tmp_path, "UPDATE mediator_outbox SET due_at = 0, headers = iif(position = 2, 'no JSON', headers)")

    async with make_app(modules) as app:
        await app.drained()

        assert sorted(detail for _, detail in await effects(app)) == ["0", "2"]
        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.event_id) == ("@outbox", events[1].event_id)


def run(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "test.db")) as connection, connection:
        connection.execute(statement)


def relayed(folder: Path) -> int:
    with closing(sqlite3.connect(database_of(folder))) as connection:
        try:
            (number,) = connection.execute("SELECT count(*) FROM mediator_sent").fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(number)


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again until it is so; the test's timeout ends what never comes."""
    while not condition():
        time.sleep(0.002)
