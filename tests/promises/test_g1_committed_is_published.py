"""G1: an outbox row exists exactly if the unit of work committed: no ghost, no silent change."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from contracts import IntegrationEvent, event_topic
from mediator import Outgoing
from tests.ledger.forks import run_in_new_interpreter
from tests.ledger.journal import read_journal
from tests.ledger.tables import database_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import PLACES, assert_kept
from tests.support import AppFactory, Effect, effects, module_of


@pytest.mark.parametrize("place", PLACES["G1"])
def test_killed_in_the_unit_of_work(place: str, new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), place)


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
    campaign = new_campaign()
    campaign.kill(place, 1)

    assert "acked" not in read_journal(campaign.folder).values()
    assert counted(campaign.folder, "transfers") == committed
    assert counted(campaign.folder, "mediator_outbox") == committed


ONE_HOUR = timedelta(hours=1)


@event_topic("notes", domain="office")
class NotedV1(IntegrationEvent):
    text: str


async def test_an_error_leaves_neither_change_nor_event(make_app: AppFactory, tmp_path: Path) -> None:
    async with make_app(module_of("office", NotedV1)) as app:
        with suppress(ZeroDivisionError):
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what="noted"))
                uow.publish(NotedV1(text="rolled back"), Outgoing(NotedV1(text="later"), delay=ONE_HOUR))
                raise ZeroDivisionError

        assert await effects(app) == []
    assert published(tmp_path) == []


async def test_a_cancelled_unit_of_work_leaves_neither_change_nor_event(make_app: AppFactory, tmp_path: Path) -> None:
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
    assert published(tmp_path) == []


async def test_a_rolled_back_savepoint_takes_its_events_along(make_app: AppFactory, tmp_path: Path) -> None:
    async with make_app(module_of("office", NotedV1)) as app:
        async with app.unit_of_work() as uow:
            uow.publish(NotedV1(text="before"))
            with suppress(ZeroDivisionError):
                async with uow.savepoint():
                    uow.publish(NotedV1(text="inside"))
                    raise ZeroDivisionError
            uow.publish(NotedV1(text="after"))
        await app.drained()

    assert published(tmp_path) == ["before", "after"]


def counted(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(database_of(folder))) as connection:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(number)


def published(folder: Path) -> list[str]:
    """The texts of everything in outbox and history, in the order of their ids."""
    with closing(sqlite3.connect(folder / "test.db")) as connection:
        rows = connection.execute(
            "SELECT body, event_id FROM mediator_outbox UNION ALL SELECT body, event_id FROM mediator_sent ORDER BY 2"
        ).fetchall()
    return [NotedV1.model_validate_json(body).text for body, _ in rows]
