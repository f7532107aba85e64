"""G2: once `commit` returned, the row survives a kill of the process.

That it survives a kill of the server, or a loss of power, is a promise of the server's settings: the toolkit looks at
them when it starts, and weakens none of them for a unit of work.
"""

import time

import pytest
from sqlalchemy import text

from mediator import MediatorApp
from tests.ledger.forks import KILLED, finish, start
from tests.ledger.judge import judge
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import KILLS
from tests.support import AppFactory, module_of

pytestmark = pytest.mark.every_database

# What each server answers when every commit waits for the disk.
DURABLE = {
    "sqlite": ("PRAGMA synchronous", 2),
    "postgresql": ("SHOW synchronous_commit", "on"),
    "mysql": ("SELECT @@innodb_flush_log_at_trx_commit", 1),
}


@pytest.mark.timeout(900)
def test_killed_by_somebody_else_at_any_moment(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()

    for _ in range(KILLS):
        told = campaign.told("acked") + campaign.random.randint(1, 8)
        process = start(campaign.next_member())
        while campaign.told("acked") < told:
            time.sleep(0.001)
        process.kill()
        assert finish(process) == KILLED
        campaign.kills["at any moment"] += 1

        # Whatever was acknowledged is there, with its event.
        assert judge(campaign.folder, campaign.url, quiet=False) == [], campaign.story()
    assert campaign.verdict() == [], campaign.story()


async def test_a_unit_of_work_waits_for_the_disk(make_app: AppFactory) -> None:
    async with make_app(module_of("bank")) as app:
        await app.publish_in_own_transaction()
        await app.drained()

        assert await answers(app) == {True}


async def answers(app: MediatorApp) -> set[bool]:
    """Whether units of work on every connection of the pool are durable, after the relay has used its own."""
    found = set()
    for _ in range(20):
        async with app.unit_of_work() as uow:
            statement, durable = DURABLE[uow.database.dialect]
            found.add((await uow.session.execute(text(statement))).scalar() == durable)
    return found
