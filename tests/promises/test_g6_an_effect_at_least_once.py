"""G6: an effect at least once, unless dead: the commit comes before the acknowledgement."""

from datetime import timedelta

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, PermanentError
from mediator.testing import FAILPOINTS
from tests.ledger.forks import run_in_new_interpreter
from tests.promises.arrivals import arrive, envelope_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import KILLS, assert_kept
from tests.support import AppFactory, Effect, effects, module_of, quick_settings

pytestmark = pytest.mark.every_database


@event_topic("letters", domain="post")
class PostedV1(IntegrationEvent):
    text: str = ""


class Deliver(IntegrationEventHandler[PostedV1]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: PostedV1) -> None:
        if event.text == "refused":
            raise PermanentError(event.text)
        self._session.add(Effect(what="delivered", detail=event.text))


@pytest.mark.timeout(900)
def test_killed_in_the_consumer(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G6", members=3)


@pytest.mark.parametrize("place", ["handler.midway", "consumer.after_ack"])
def test_killed_in_an_interpreter_of_its_own(place: str, new_campaign: CampaignFactory) -> None:
    campaign = new_campaign(killed_in=run_in_new_interpreter)
    campaign.kill(place)

    assert campaign.verdict() == [], campaign.story()


@pytest.mark.timeout(900)
def test_killed_alone_one_after_the_other(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()
    for place in campaign.shuffled(FAILPOINTS)[: 2 * KILLS]:
        # What an earlier kill left undone comes on top of what this run does.
        campaign.kill(place)

    assert campaign.verdict() == [], campaign.story()


async def test_acknowledged_means_committed(make_app: AppFactory) -> None:
    async with make_app(module_of("post", Deliver)) as app:
        for number in range(5):
            await arrive(app, envelope_of(PostedV1(text=f"{number}")))

            assert len(await effects(app)) == number + 1


async def test_acknowledged_means_dead_where_it_failed_for_good(make_app: AppFactory) -> None:
    async with make_app(module_of("post", Deliver)) as app:
        await arrive(app, envelope_of(PostedV1(text="refused")))

        assert [letter.reason for letter in await app.dead_letters.list()] == ["failed"]


async def test_what_a_pause_keeps_is_handled_after_a_restart(make_app: AppFactory) -> None:
    modules = module_of("post", Deliver)
    async with make_app(modules) as app:
        app.pause("post.deliver")
        await arrive(app, envelope_of(PostedV1(text="kept")))
        assert await effects(app) == []

    async with make_app(modules, settings=quick_settings(drain_on_stop=timedelta(0))) as app:
        await app.drained()

        assert await effects(app) == [("delivered", "kept")]
