"""A replay at a rate: each letter has its moment in the database, and a key keeps its order."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mediator import MediatorApp
from mediator.errors import PublishRefusedError, SettingsError
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, at_once, eventually, rows, writes
from tests.operations.letters import Repairable, die, dying, positions
from tests.support import AppFactory, effects, module_of, quick_settings
from tests.support.databases import execute

SELDOM, INTERVAL = 0.001, timedelta(seconds=1_000)


async def dead_of_one_key(app: MediatorApp, *texts: str) -> None:
    """Several letters of one key, although order is kept: by decisions that were taken back."""
    for text in texts:
        await die(app, text)
        await app.dead_letters.discard(*await positions(app), reason="for the moment")
    await app.dead_letters.restore(*await positions(app, status="discarded"))


async def test_each_letter_has_a_moment_of_its_own(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "1", "2", "3", "4")
        app.pause("mail.send")
        outcome = await app.dead_letters.replay(await app.dead_letters.select(), per_second=SELDOM)
        due = [row.next_attempt_at for row in await rows(app, "parked")]

        assert outcome.done == 4
        assert [later - due[0] for later in due] == [INTERVAL * number for number in range(4)]


async def test_nobody_sleeps_and_a_restart_changes_nothing(make_app: AppFactory, database_url: str) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable))) as app:
        await die(app, "1", "2")
        repairable.broken = False
        await app.dead_letters.replay(await app.dead_letters.select(), per_second=SELDOM)
        await eventually(lambda: app.counters.total("handled", "mail.send"))
    async with make_app(module_of("mail", dying(repairable))) as app:
        assert await effects(app) == [("Send", "1")]
        # The database's clock cannot be turned; what is due can.
        await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET next_attempt_at = 0")
        await app.drained()

        assert await effects(app) == [("Send", "1"), ("Send", "2")]


async def test_a_group_may_have_a_rate(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "1", "2")
        app.pause("mail.send")
        (group,) = await app.dead_letters.groups()

        assert await app.dead_letters.replay_group(group.fingerprint, per_second=SELDOM) == 2
        first, second = (row.next_attempt_at for row in await rows(app, "parked"))
        assert second - first == INTERVAL


@pytest.mark.parametrize("per_second", [None, 1_000])
async def test_a_key_keeps_its_order_although_its_first_letter_fails_again(
    make_app: AppFactory, per_second: float | None
) -> None:
    failures = {"a1": 2, "a2": 1, "a3": 1}

    def react(handler: object, event: NotedV1) -> None:
        if failures.get(event.text, 0) > 0:
            failures[event.text] -= 1
            raise LookupError("closed")
        writes(handler, event)

    async with make_app(module_of("mail", dying(react, ordering="key"))) as app:
        await dead_of_one_key(app, "a1", "a2", "a3")
    async with make_app(module_of("mail", dying(react, ordering="key", retry=at_once(5)))) as app:
        await app.publish_in_own_transaction(NotedV1(text="a4"))
        await app.drained()
        outcome = await app.dead_letters.replay(await app.dead_letters.select(), per_second=per_second)
        await eventually(lambda: app.counters.total("handled", "mail.send") == 4)

        assert outcome.done == 3
        assert [text for _, text in await effects(app)] == ["a1", "a2", "a3", "a4"]


async def test_what_waits_for_its_key_waits_for_its_moment_too(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable, ordering="key"))) as app:
        await dead_of_one_key(app, "a1", "a2")
        repairable.broken = False
        await app.dead_letters.replay(await app.dead_letters.select(), per_second=SELDOM)
        await eventually(lambda: app.counters.total("handled", "mail.send"))
        (left,) = await rows(app, "parked")

        assert left.status == "retry"
        assert left.next_attempt_at - left.parked_at > INTERVAL / 2
        assert await effects(app) == [("Send", "a1")]


async def test_the_first_of_a_key_goes_at_once(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable(), ordering="key"))) as app:
        await dead_of_one_key(app, "a1", "a2")
        # While it rests, nobody sweeps up what is blocked for no reason.
        app.pause("mail.send")
        await app.dead_letters.replay(await app.dead_letters.select())

        assert [row.status for row in await rows(app, "parked")] == ["retry", "blocked"]


async def test_a_letter_waits_behind_one_of_its_key_that_was_not_selected(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable, ordering="key"))) as app:
        await dead_of_one_key(app, "a1", "a2")
        repairable.broken = False
        first, second = await app.dead_letters.list()
        await app.dead_letters.replay(await app.dead_letters.select(event_id=second.event_id))
        assert [row.status for row in await rows(app, "parked")] == ["dead", "blocked"]
        await app.dead_letters.replay(first.position)
        await eventually(lambda: app.counters.total("handled", "mail.send") == 2)

        assert await effects(app) == [("Send", "a1"), ("Send", "a2")]


async def test_where_no_order_is_kept_nobody_waits_for_the_other(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "a1", "a2")
        app.pause("mail.send")
        await app.dead_letters.replay(await app.dead_letters.select())

        assert [row.status for row in await rows(app, "parked")] == ["retry", "retry"]


class Refusing(MemoryTransport):
    """Refuses whatever it is given, for a while."""

    refuses = True

    async def publish(self, batch: Any) -> Any:
        if not self.refuses:
            async for outcome in super().publish(batch):
                yield outcome
            return
        for envelope in batch:
            yield envelope, PublishRefusedError("memory", envelope.topic, "too large")


async def is_sent(app: MediatorApp, count: int) -> bool:
    return len(await rows(app, "sent")) == count


async def test_what_was_not_sent_is_scheduled(make_app: AppFactory) -> None:
    settings = quick_settings(relay={"retry": at_once(1), "poll": timedelta(milliseconds=50)})
    transport = Refusing()

    async with make_app(module_of("mail", dying(writes)), transport=transport, settings=settings) as app:
        await die(app, "1", "2", "3")
        transport.refuses = False
        outcome = await app.dead_letters.replay(await app.dead_letters.select(), per_second=SELDOM)
        await eventually(lambda: is_sent(app, 1))
        second, third = sorted(row.due_at for row in await rows(app, "outbox"))

        assert outcome.done == 3
        # Each row's moment is the database's when it was inserted, and its delay.
        assert abs(third - second - INTERVAL) < INTERVAL / 100
        assert await effects(app) == [("Send", "1")]


@pytest.mark.parametrize("per_second", [0, -1, 1e-9, float("nan"), float("inf")])
async def test_a_rate_that_cannot_be_meant(make_app: AppFactory, per_second: float) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "1")
        selection = await app.dead_letters.select()
        with pytest.raises(SettingsError, match=r"per_second = .* cannot work: use a number from 0.001 to 1,000,000"):
            await app.dead_letters.replay(selection, per_second=per_second)

        assert len(await positions(app)) == 1
