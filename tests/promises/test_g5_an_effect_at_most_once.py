"""G5: (subscriber, event id) commits its effect at most once."""

from datetime import timedelta

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from tests.promises.arrivals import arrive, envelope_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import assert_kept
from tests.support import AppFactory, Effect, effects, module_of

pytestmark = pytest.mark.every_database

COPIES = 8


@event_topic("payments", domain="billing")
class PaidV1(IntegrationEvent):
    amount: int = 1


class Book(IntegrationEventHandler[PaidV1]):
    retry = RetryPolicy.fixed(10, timedelta(0))
    failures = 0

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self._session, self._context = session, context

    async def handle(self, event: PaidV1) -> None:
        self._session.add(Effect(what=f"booked by {self._context.subscriber_id}", detail=str(event.event_id)))
        await self._session.flush()
        if self._context.attempt <= self.failures:
            raise RuntimeError(f"attempt {self._context.attempt}")


class BookAtLast(Book):
    failures = 3


class BookInOrder(Book):
    ordering = "key"


class BookInOrderAtLast(BookAtLast):
    ordering = "key"


@pytest.mark.timeout(900)
def test_killed_around_the_inbox(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G5", members=2)


@pytest.mark.timeout(300)
@pytest.mark.databases("postgresql", "psycopg", "mariadb")
def test_relays_that_all_carry_everything_apply_nothing_twice(new_campaign: CampaignFactory) -> None:
    # Each event reaches every process, many of them at the same moment.
    campaign = new_campaign(variant="every relay has every slot")
    campaign.together(3)

    assert campaign.verdict() == [], campaign.story()


@pytest.mark.parametrize("handler", [Book, BookAtLast, BookInOrder, BookInOrderAtLast])
async def test_eight_copies_at_once_have_one_effect(handler: type[Book], make_app: AppFactory) -> None:
    async with make_app(module_of("billing", handler)) as app:
        event = PaidV1()
        await arrive(app, *[envelope_of(event)] * COPIES)
        await app.drained()

        (subscriber,) = app.registry.subscribers
        assert await effects(app) == [(f"booked by {subscriber.id}", str(event.event_id))]
        assert app.counters.total("duplicate_skipped", subscriber.id) == COPIES - 1


async def test_each_subscriber_has_its_own_effect(make_app: AppFactory) -> None:
    # One module twice: the class has the same name in both.
    async with make_app(module_of("billing", Book, BookAtLast), module_of("reports", BookInOrder)) as app:
        event = PaidV1()
        await arrive(app, *[envelope_of(event)] * COPIES)
        await app.drained()

        booked = sorted(what for what, _ in await effects(app))
        assert booked == ["booked by billing.book", "booked by billing.book-at-last", "booked by reports.book-in-order"]


async def test_a_copy_after_a_restart_is_skipped(make_app: AppFactory) -> None:
    modules, event = module_of("billing", BookAtLast), PaidV1()
    for _ in range(3):
        async with make_app(modules) as app:
            await arrive(app, envelope_of(event))
            await app.drained()

            assert len(await effects(app)) == 1


async def test_a_copy_of_what_died_is_skipped(make_app: AppFactory) -> None:
    class Refuse(Book):
        failures = 100
        retry = RetryPolicy.fixed(2, timedelta(0))

    async with make_app(module_of("billing", Refuse)) as app:
        event = PaidV1()
        for _ in range(3):
            await arrive(app, envelope_of(event))
            await app.drained()

        assert await effects(app) == []
        assert [letter.attempts for letter in await app.dead_letters.list()] == [2]
