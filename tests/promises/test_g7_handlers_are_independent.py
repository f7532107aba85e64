"""G7: handlers of one event do not affect each other."""

import asyncio
from datetime import timedelta

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from tests.promises.arrivals import arrive, envelope_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import KILLS
from tests.support import AppFactory, Effect, effects, module_of

pytestmark = pytest.mark.every_database


@event_topic("alarms", domain="tower")
class RangV1(IntegrationEvent):
    text: str = ""


class Hear(IntegrationEventHandler[RangV1]):
    retry = RetryPolicy.fixed(3, timedelta(0))

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self.session, self.context = session, context

    async def handle(self, event: RangV1) -> None:
        self.session.add(Effect(what=self.context.subscriber_id or "", detail=event.text))
        await self.session.flush()


class Fast(Hear):
    pass


class FailTwice(Hear):
    async def handle(self, event: RangV1) -> None:
        await super().handle(event)
        if self.context.attempt < 3:
            raise RuntimeError(f"attempt {self.context.attempt}")


class FailForGood(Hear):
    async def handle(self, event: RangV1) -> None:
        await super().handle(event)
        raise RuntimeError("always")


class Hang(Hear):
    timeout = timedelta(milliseconds=50)
    retry = RetryPolicy.fixed(2, timedelta(0))

    async def handle(self, event: RangV1) -> None:
        await super().handle(event)
        await asyncio.Event().wait()


async def test_one_fails_one_hangs_one_is_fast(make_app: AppFactory) -> None:
    async with make_app(module_of("tower", Fast, FailTwice, FailForGood, Hang), module_of("town", Hear)) as app:
        for text in ("first", "second"):
            await arrive(app, envelope_of(RangV1(text=text)))
        await app.drained()

        texts = ("first", "second")
        heard = ("tower.fail-twice", "tower.fast", "town.hear")
        assert sorted(await effects(app)) == [(subscriber, text) for subscriber in heard for text in texts]
        letters = await app.dead_letters.list()
        assert sorted((letter.subscriber_id, letter.attempts) for letter in letters) == [
            ("tower.fail-for-good", 3),
            ("tower.fail-for-good", 3),
            ("tower.hang", 2),
            ("tower.hang", 2),
        ]
        # Each ran once for each event, but those that failed.
        assert {name: app.counters.total("handled", name) for name in heard} == dict.fromkeys(heard, 2)


async def test_the_replay_of_one_does_not_touch_the_others(make_app: AppFactory) -> None:
    healed = False

    class Heal(Hear):
        retry = RetryPolicy.never()

        async def handle(self, event: RangV1) -> None:
            if not healed:
                raise RuntimeError("not yet")
            await super().handle(event)

    async with make_app(module_of("tower", Fast, Heal)) as app:
        await arrive(app, envelope_of(RangV1(text="once")))
        (letter,) = await app.dead_letters.list()
        healed = True
        await app.dead_letters.replay(letter.position)
        await app.drained()

        assert await effects(app) == [("tower.fast", "once"), ("tower.heal", "once")]


async def test_a_paused_handler_rests_alone(make_app: AppFactory) -> None:
    async with make_app(module_of("tower", Fast, Hear)) as app:
        app.pause("tower.hear")
        await arrive(app, envelope_of(RangV1(text="now")))
        assert await effects(app) == [("tower.fast", "now")]

        app.resume("tower.hear")
        await app.drained()
        assert await effects(app) == [("tower.fast", "now"), ("tower.hear", "now")]


@pytest.mark.timeout(900)
def test_killed_between_handlers(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()
    for _ in range(KILLS):
        # The first handlers of an event have committed, the others have not.
        campaign.kill("inbox.after_commit", 4)

    assert campaign.verdict() == [], campaign.story()
