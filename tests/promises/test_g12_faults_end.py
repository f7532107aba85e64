"""G12: when faults stop, everything that is not dead is applied within the retry delay plus two polls.

The bound here is generous: it is there for what would wait until something else happens, or for ever.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, ClassVar

import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import IntegrationEventHandler, RetryPolicy
from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.transports.memory import MemoryTransport
from tests.ledger.forks import KILLED, finish, running, start
from tests.ledger.judge import left_over
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import KILLS
from tests.support import AppFactory, Effect, effects, module_of
from tests.support.databases import execute

pytestmark = pytest.mark.every_database

EVENTS = 12
RETRY = RetryPolicy.fixed(1_000, timedelta(milliseconds=100))
SOON = timedelta(seconds=20)
_CUTS, _BETWEEN_CUTS_SECONDS = 20, 0.1


@event_topic("parcels", domain="depot")
class SentV1(IntegrationEvent):
    number: int
    shelf: Annotated[str, PartitionKey()] = ""


class Store(IntegrationEventHandler[SentV1]):
    ordering = "key"
    retry = RETRY
    works: ClassVar[bool] = True

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: SentV1) -> None:
        self._session.add(Effect(what=event.shelf, detail=f"{event.number}"))
        await self._session.flush()
        if not self.works:
            raise RuntimeError("nobody can work like that")


class Faulty(MemoryTransport):
    """Gives the same answer to everything, until it works."""

    def __init__(self, fault: type[PublishRefusedError | TransportUnavailableError]) -> None:
        super().__init__()
        self.works, self._fault = False, fault

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        if self.works:
            async for outcome in super().publish(batch):
                yield outcome
            return
        for envelope in batch:
            if self._fault is TransportUnavailableError:
                yield envelope, TransportUnavailableError(self.name, "down")
            else:
                yield envelope, PublishRefusedError(self.name, envelope.topic, "no")


def parcels() -> list[SentV1]:
    return [SentV1(number=number, shelf="abc"[number % 3]) for number in range(EVENTS)]


def stored() -> list[tuple[str, str]]:
    """Each shelf in its order."""
    return sorted(((event.shelf, f"{event.number}") for event in parcels()), key=lambda one: one[0])


async def test_handlers_that_failed(make_app: AppFactory) -> None:
    failures, failed_often = list[int](), asyncio.Event()

    class Heal(Store):
        works = False

        async def handle(self, event: SentV1) -> None:
            failures.append(event.number)
            if len(failures) > EVENTS:
                failed_often.set()
            await super().handle(event)

    async with make_app(module_of("depot", Heal)) as app:
        await app.publish_in_own_transaction(*parcels())
        await failed_often.wait()
        assert await effects(app) == []
        Heal.works = True
        await app.drained(SOON)

        assert sorted(await effects(app), key=lambda one: one[0]) == stored()


@pytest.mark.parametrize("fault", [PublishRefusedError, TransportUnavailableError])
async def test_a_transport_that_took_nothing(
    fault: type[PublishRefusedError | TransportUnavailableError], make_app: AppFactory
) -> None:
    transport = Faulty(fault)
    async with make_app(module_of("depot", Store), transport=transport) as app:
        await app.publish_in_own_transaction(*parcels())
        await asyncio.sleep(0.3)
        assert await effects(app) == []
        transport.works = True
        await app.drained(SOON)

        assert sorted(await effects(app), key=lambda one: one[0]) == stored()


@pytest.mark.timeout(900)
@pytest.mark.databases("postgresql", "psycopg", "mariadb")
@pytest.mark.parametrize("place", ["retry.after_claim", "retry.before_commit", "relay.after_publish", "handler.midway"])
def test_a_process_that_died_leaves_nothing_that_waits_for_its_return(
    place: str, new_campaign: CampaignFactory
) -> None:
    campaign = new_campaign()
    with running(campaign.next_member(moves_money=False)) as survivor:
        for _ in range(max(KILLS // 2, 1)):
            assert finish(start(campaign.next_member(kill=(place, campaign.random.randint(1, 3))))) == KILLED
            campaign.kills[place] += 1
            await_quiet(campaign.url)
        campaign.close()
        assert finish(survivor) == 0, campaign.story()

    assert campaign.verdict() == [], campaign.story()


@pytest.mark.timeout(900)
@pytest.mark.databases("postgresql", "psycopg", "mariadb")
def test_connections_that_are_cut_in_the_middle_of_everything(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()
    with campaign.at_work(members=3):
        while campaign.told("acked") < 10:
            time.sleep(0.05)
        for _ in range(_CUTS):
            cut_one(campaign.url)
            time.sleep(_BETWEEN_CUTS_SECONDS)

    assert campaign.verdict() == [], campaign.story()


def await_quiet(url: str) -> None:
    """Nothing is left soon, although whoever had it is gone."""
    give_up_at = time.monotonic() + SOON.total_seconds()
    while left := left_over(url):
        assert time.monotonic() < give_up_at, left
        time.sleep(0.05)


def cut_one(url: str) -> None:
    """End a session of this database; which one is up to the server."""
    if url.startswith("postgresql"):
        others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        execute(
            url,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others} ORDER BY random() LIMIT 1",
        )
        return
    others = "db = database() AND id <> connection_id()"
    for (session,) in execute(
        url, f"SELECT id FROM information_schema.processlist WHERE {others} ORDER BY rand() LIMIT 1"
    ):
        with suppress(DBAPIError):
            # It may have ended by itself.
            execute(url, f"KILL {session}")
