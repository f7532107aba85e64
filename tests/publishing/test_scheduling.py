"""Events that are published later: in the order of their time, after a restart as well, unless they are cancelled."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from contracts import IntegrationEvent
from mediator import (
    Command,
    CommandHandler,
    IntegrationEventPublisher,
    MediatorApp,
    Outgoing,
    Query,
    QueryHandler,
    UnitOfWork,
)
from mediator.errors import EventRefusedError, UnitOfWorkClosedError, UnitOfWorkRequiredError, UsageError
from tests.publishing.bank import FactV1, KeyedV1, facts
from tests.storage.rows import eventually, stored
from tests.support import AppFactory, module_of, quick_settings
from tests.support.databases import execute
from tests.support.transports import ScriptedTransport

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SELDOM = quick_settings(relay={"poll": MINUTE, "fastest_poll": MINUTE})
"""A relay that finds nothing by itself while a test lasts."""


def in_an_hour() -> datetime:
    return datetime.now(UTC) + HOUR


def become_due(url: str) -> None:
    """Time passes: what was scheduled is due, in the same order."""
    execute(url, "UPDATE mediator_outbox SET due_at = due_at - 1000000000000 WHERE slot < 0")


async def scheduled(app: MediatorApp, *times: timedelta | datetime) -> list[UUID]:
    """Events that are named by their number."""
    events = [FactV1(what=str(number)) for number in range(len(times))]
    await app.publish_in_own_transaction(
        *(
            Outgoing(event, delay=time) if isinstance(time, timedelta) else Outgoing(event, at=time)
            for event, time in zip(events, times, strict=True)
        )
    )
    return [event.event_id for event in events]


async def cancel(app: MediatorApp, event_id: UUID) -> bool:
    async with app.unit_of_work() as uow:
        return await uow.cancel(event_id)


async def reschedule(app: MediatorApp, event_id: UUID, **time: Any) -> bool:
    async with app.unit_of_work() as uow:
        return await uow.reschedule(event_id, **time)


def sent(*transports: ScriptedTransport) -> list[str]:
    return [json.loads(envelope.body)["what"] for transport in transports for envelope in transport.confirmed]


async def test_they_leave_in_the_order_of_their_time_after_a_restart_as_well(
    make_app: AppFactory, database_url: str
) -> None:
    times = [2 * HOUR, in_an_hour(), 3 * HOUR, datetime.now(timezone(-HOUR)) + HOUR / 2]
    async with make_app(module_of("bank"), transport=ScriptedTransport()) as app:
        await app.publish_in_own_transaction(
            *(
                Outgoing(
                    KeyedV1(key="k", what=str(number)),
                    **{"delay" if isinstance(time, timedelta) else "at": time},  # type: ignore[arg-type]
                )
                for number, time in enumerate(times)
            )
        )
        await app.drained(scheduled=False)

    become_due(database_url)
    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport) as app:
        await app.drained()

    assert sent(transport) == ["3", "1", "0", "2"]


async def test_a_time_that_has_passed_is_now(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank"), settings=SELDOM) as app:
        await app.publish_in_own_transaction(FactV1(what="at the start"))
        await app.drained()
        await scheduled(app, datetime(1970, 1, 1, tzinfo=UTC), datetime.now(UTC) - HOUR, timedelta(0), -HOUR)

        assert sorted(await facts(app, database_url)) == ["0", "1", "2", "3", "at the start"]


async def test_what_was_cancelled_is_never_sent(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        first, _, third = await scheduled(app, HOUR, HOUR, in_an_hour())
        async with app.unit_of_work() as uow:
            assert await uow.cancel(first)
            assert not await uow.cancel(first)
            assert not await uow.reschedule(first, delay=HOUR)
        assert await cancel(app, third)
        assert not await cancel(app, third)
        become_due(database_url)

        assert await facts(app, database_url) == ["1"]


async def test_whoever_rolls_back_has_cancelled_nothing(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        first, second, third = await scheduled(app, HOUR, HOUR, HOUR)
        with pytest.raises(KeyError):  # noqa: PT012 - the block is the unit of work
            async with app.unit_of_work() as uow:
                assert await uow.cancel(first)
                assert await uow.reschedule(second, delay=timedelta(0))
                raise KeyError
        async with app.unit_of_work() as uow:
            with pytest.raises(KeyError):  # noqa: PT012 - the block is the savepoint
                async with uow.savepoint():
                    assert await uow.cancel(third)
                    raise KeyError
        await app.drained(scheduled=False)
        assert await stored(database_url, "sent") == []
        become_due(database_url)

        assert sorted(await facts(app, database_url)) == ["0", "1", "2"]


async def test_what_is_sent_or_unknown_cannot_be_cancelled(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        (event_id,) = await scheduled(app, timedelta(0))
        assert await facts(app, database_url) == ["0"]

        for unknown in (event_id, uuid4(), UUID(int=0)):
            assert not await cancel(app, unknown)
            assert not await reschedule(app, unknown, at=in_an_hour())

        assert await facts(app, database_url) == ["0"]


async def test_what_waits_for_the_transport_cannot_be_cancelled(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    transport.may_answer.clear()
    async with make_app(module_of("bank"), transport=transport) as app:
        (event_id,) = await scheduled(app, timedelta(0))
        await eventually(lambda: bool(transport.batches))

        assert not await cancel(app, event_id)
        assert not await reschedule(app, event_id, delay=HOUR)
        transport.may_answer.set()
        assert await facts(app, database_url) == ["0"]


@pytest.mark.parametrize("time", [{"delay": timedelta(0)}, {"at": datetime(2000, 1, 1, tzinfo=UTC)}])
async def test_what_is_wanted_at_once_after_all_wakes_the_relay(
    time: dict[str, Any], make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank"), settings=SELDOM) as app:
        _, second = await scheduled(app, HOUR, in_an_hour())
        assert await reschedule(app, second, **time)
        await app.drained(scheduled=False)

        # The relay would not have looked for a minute.
        await eventually(lambda: sent_rows(database_url))
        assert [json.loads(row["body"])["what"] for row in await stored(database_url, "sent")] == ["1"]


async def sent_rows(url: str) -> bool:
    return bool(await stored(url, "sent"))


@pytest.mark.databases("postgresql", "psycopg")
async def test_it_wakes_the_relay_of_another_process(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    relaying = make_app(module_of("bank"), settings=SELDOM, roles={"relay"}, transport=transport)
    async with relaying, make_app(module_of("bank"), settings=SELDOM, roles={"publish"}) as app:
        (event_id,) = await scheduled(app, HOUR)
        assert await reschedule(app, event_id, delay=timedelta(0))

        await eventually(lambda: sent(transport) == ["0"])


async def test_what_is_put_off_waits_longer(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app:
        first, second, third = await scheduled(app, HOUR, HOUR, HOUR)
        assert await reschedule(app, first, delay=3 * HOUR)
        assert await reschedule(app, second, at=datetime.now(UTC) + 2 * HOUR)
        assert await reschedule(app, third, delay=4 * HOUR)
        assert await reschedule(app, third, delay=HOUR)
        # An hour and a half passes.
        execute(database_url, "UPDATE mediator_outbox SET due_at = due_at - 5400000 WHERE slot < 0")
        await app.drained(scheduled=False)
        await eventually(lambda: sent_rows(database_url))
        assert [json.loads(row["body"])["what"] for row in await stored(database_url, "sent")] == ["2"]
        left = sorted(
            (row for row in await stored(database_url, "outbox") if row["slot"] < 0), key=lambda row: row["due_at"]
        )

        assert [row["event_id"] for row in left] == [second, first]


async def test_a_handler_cancels_with_its_change(make_app: AppFactory, database_url: str) -> None:
    class Settle(Command[bool]):
        def __init__(self, reminder: UUID) -> None:
            self.reminder = reminder

    class SettleHandler(CommandHandler[Settle, bool]):
        def __init__(self, publisher: IntegrationEventPublisher, uow: UnitOfWork) -> None:
            self.publisher, self.uow = publisher, uow

        async def handle(self, command: Settle) -> bool:
            self.publisher.publish(FactV1(what="settled"))
            put_off = await self.uow.reschedule(command.reminder, delay=2 * HOUR)
            return put_off and await self.publisher.cancel(command.reminder)

    async with make_app(module_of("bank", Settle, SettleHandler)) as app:
        (reminder,) = await scheduled(app, HOUR)
        assert await app.mediator.send(Settle(reminder))
        become_due(database_url)

        assert await facts(app, database_url) == ["settled"]


async def test_of_two_that_cancel_one_has_done_it(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank")) as app, make_app(module_of("bank"), roles={"publish"}) as other:
        ids = await scheduled(app, *[HOUR] * 5)
        for event_id in ids:
            assert sorted(await asyncio.gather(cancel(app, event_id), cancel(other, event_id))) == [False, True]
        become_due(database_url)

        assert await facts(app, database_url) == []


REFUSED_TIMES: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"delay": HOUR, "at": datetime.now(UTC)}, "Give one of them"),
    "no delay": ({"delay": 5}, "its delay is 5. Use a timedelta"),
    "a delay beyond time": ({"delay": timedelta.max}, "Use at most 3650 days"),
    "a delay below time": ({"delay": timedelta.min}, "Use at most 3650 days"),
    "no zone": (
        {"at": datetime(2050, 1, 1, tzinfo=UTC).replace(tzinfo=None)},
        r"its time is datetime.*Use a datetime with a zone",
    ),
    "a text": ({"at": "2050-01-01T00:00:00Z"}, "its time is '2050.*Use a datetime with a zone"),
    "a time beyond time": ({"at": datetime.max.replace(tzinfo=timezone(-HOUR))}, "Use one from 1970 to 2999"),
    "a time below time": ({"at": datetime.min.replace(tzinfo=timezone(HOUR))}, "Use one from 1970 to 2999"),
}


@pytest.mark.parametrize(("time", "what"), REFUSED_TIMES.values(), ids=REFUSED_TIMES)
async def test_what_cannot_be_waited_for_is_refused(
    time: dict[str, Any], what: str, make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank")) as app:
        (event_id,) = await scheduled(app, HOUR)
        async with app.unit_of_work() as uow:
            with pytest.raises(EventRefusedError, match=f"FactV1 cannot be published: .*{what}"):
                uow.publish(Outgoing(FactV1(what="never"), **time))
            with pytest.raises(EventRefusedError, match=f"event {event_id} cannot be published: .*{what}"):
                await uow.reschedule(event_id, **time)
        become_due(database_url)

        assert await facts(app, database_url) == ["0"]


Call = Callable[[Any, Any], Any]
CALLS: dict[str, Call] = {
    "cancel": lambda uow, event_id: uow.cancel(event_id),
    "reschedule": lambda uow, event_id: uow.reschedule(event_id, delay=HOUR),
}


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=CALLS)
async def test_what_cannot_be_right_is_refused(name: str, call: Call, make_app: AppFactory, database_url: str) -> None:
    class Look(Query[None]):
        pass

    class LookHandler(QueryHandler[Look, None]):
        def __init__(self, uow: UnitOfWork) -> None:
            self.uow = uow

        async def handle(self, query: Look) -> None:
            await call(self.uow, uuid4())

    async with make_app(module_of("bank", Look, LookHandler)) as app:
        async with app.unit_of_work() as uow:
            own: IntegrationEvent = FactV1(what="own")
            uow.publish(Outgoing(own, delay=timedelta(0)))
            with pytest.raises(UsageError, match=rf"{name}\({own.event_id}\).*itself publishes.*Do not publish it"):
                await call(uow, own.event_id)
            for wrong in (str(own.event_id), own, None):
                with pytest.raises(UsageError, match=rf"{name}\(.*use the event_id of the event, a UUID"):
                    await call(uow, wrong)
        with pytest.raises(UnitOfWorkClosedError, match=name):
            await call(uow, own.event_id)
        with pytest.raises(UnitOfWorkRequiredError, match=rf"{name}\(\) in a query"):
            await app.mediator.send(Look())

        assert await facts(app, database_url) == ["own"]


async def test_a_new_time_has_to_be_given(make_app: AppFactory) -> None:
    async with make_app(module_of("bank")) as app, app.unit_of_work() as uow:
        with pytest.raises(UsageError, match=r"needs a time: give it delay=\.\.\. or at="):
            await uow.reschedule(uuid4())


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_is_faster_each_event_is_either_cancelled_or_sent(
    seed: int, make_app: AppFactory, database_url: str
) -> None:
    random, moment = Random(seed), timedelta(milliseconds=1)
    settings = quick_settings(relay={"poll": moment, "batch": 7}, database={"connections": 8})
    transports = [ScriptedTransport(), ScriptedTransport()]
    cancelled: list[UUID] = []
    with capture_logs() as log:
        async with AsyncExitStack() as stack:
            apps = [
                await stack.enter_async_context(make_app(module_of("bank"), transport=transport, settings=settings))
                for transport in transports
            ]
            ids = await scheduled(apps[0], *(random.randrange(400) * moment for _ in range(150)))

            async def meddle(app: MediatorApp, order: list[UUID]) -> None:
                for event_id in order:
                    if random.random() < 0.6:
                        await reschedule(app, event_id, delay=random.randrange(-50, 200) * moment)
                    elif await cancel(app, event_id):
                        cancelled.append(event_id)

            async with asyncio.TaskGroup() as group:
                for app in apps * 3:
                    group.create_task(meddle(app, random.sample(ids, 100)))
            await apps[0].drained()

    assert cancelled
    assert len(sent(*transports)) < 150
    assert sorted(sent(*transports) + [str(ids.index(one)) for one in cancelled], key=int) == list(map(str, range(150)))
    assert [entry for entry in log if entry["log_level"] in {"warning", "error"}] == []
