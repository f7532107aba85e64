"""G1: an outbox row exists exactly if the unit of work committed: no ghost, no silent change."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import Outgoing
from tests.ledger.forks import run_in_new_interpreter
from tests.ledger.journal import read_journal
from tests.ledger.tables import ACCOUNTS
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import assert_kept
from tests.support import AppFactory, Effect, effects, module_of
from tests.support.databases import execute

pytestmark = pytest.mark.every_database


@pytest.mark.timeout(900)
def test_killed_in_the_unit_of_work(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G1", members=3)


def test_killed_in_an_interpreter_of_its_own(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign(killed_in=run_in_new_interpreter)
    campaign.kill("uow.after_commit")

    assert campaign.verdict() == []


@pytest.mark.parametrize(
    ("place", "committed"), [("uow.after_outbox", 0), ("uow.before_commit", 0), ("uow.after_commit", 1)]
)
def test_the_commit_decides_on_change_and_event_alike(
    place: str, committed: int, new_campaign: CampaignFactory
) -> None:
    # The writers wait for one another: no other one has committed before the first.
    campaign = new_campaign(accounts=ACCOUNTS[:1])
    campaign.kill(place, 1)

    assert "acked" not in read_journal(campaign.folder).values()
    assert counted(campaign.url, "transfers") == committed
    assert counted(campaign.url, "mediator_outbox") == committed


ONE_HOUR = timedelta(hours=1)


@event_topic("notes", domain="office")
class NotedV1(IntegrationEvent):
    text: str


async def test_an_error_leaves_neither_change_nor_event(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("office", NotedV1)) as app:
        with suppress(ZeroDivisionError):
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what="noted"))
                uow.publish(NotedV1(text="rolled back"), Outgoing(NotedV1(text="later"), delay=ONE_HOUR))
                raise ZeroDivisionError

        assert await effects(app) == []
    assert published(database_url) == []


async def test_a_cancelled_unit_of_work_leaves_neither_change_nor_event(
    make_app: AppFactory, database_url: str
) -> None:
    reached = asyncio.Event()

    async with make_app(module_of("office", NotedV1)) as app:

        async def work() -> None:
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what="noted"))
                await uow.session.flush()
                uow.publish(NotedV1(text="cancelled"))
                reached.set()
                # Hidden here, and found out at the commit all the same.
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await effects(app) == []
    assert published(database_url) == []


async def test_a_rolled_back_savepoint_takes_its_events_along(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("office", NotedV1)) as app:
        async with app.unit_of_work() as uow:
            uow.publish(NotedV1(text="before"))
            with suppress(ZeroDivisionError):
                async with uow.savepoint():
                    uow.publish(NotedV1(text="inside"))
                    raise ZeroDivisionError
            uow.publish(NotedV1(text="after"))
        await app.drained()

    assert published(database_url) == ["before", "after"]


def counted(url: str, table: str) -> int:
    return int(execute(url, f"SELECT count(*) FROM {table}")[0][0])


def published(url: str) -> list[str]:
    """The texts of everything in outbox and history, in the order of their ids."""
    rows = execute(
        url, "SELECT body, event_id FROM mediator_outbox UNION ALL SELECT body, event_id FROM mediator_sent ORDER BY 2"
    )
    return [NotedV1.model_validate_json(bytes(body)).text for body, _ in rows]
