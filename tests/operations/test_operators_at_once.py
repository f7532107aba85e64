"""Operators and retries at the same moment, in two processes: an effect happens once, and the audit trail is true."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from mediator import MediatorApp, RetryPolicy
from mediator.errors import OperationRefusedError
from mediator.storage.tables import Tables
from tests.consuming.notes import NotedV1, eventually, rows, writes
from tests.operations.letters import Repairable, dying, positions, store
from tests.support import AppFactory, effects, module_of

MANY = 60


async def many_dead(app: MediatorApp) -> None:
    await app.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(MANY)))
    await app.drained()


async def deeds(app: MediatorApp) -> Counter[str]:
    """How often each letter stands in the audit trail."""
    return Counter(one.subject for one in await rows(app, "audit"))


@asynccontextmanager
async def locked(database_url: str, position: int) -> AsyncIterator[None]:
    engine, parked = create_async_engine(database_url), Tables().parked
    async with engine.begin() as connection:
        await connection.execute(select(parked.c.position).where(parked.c.position == position).with_for_update())
        yield
    await engine.dispose()


async def test_two_replays_of_one_selection_are_one(make_app: AppFactory) -> None:
    repairable = Repairable()
    mail = module_of("mail", dying(repairable, concurrency=4))

    async with make_app(mail) as app, make_app(mail) as other:
        await many_dead(app)
        repairable.broken = False
        selection = await app.dead_letters.select()
        outcomes = await asyncio.gather(
            *(one.dead_letters.replay(selection) for one in (app, other)),
            *(one.dead_letters.replay(selection, per_second=1_000) for one in (app, other)),
        )
        await app.drained()

        assert sum(outcome.done for outcome in outcomes) == MANY
        assert all(outcome.done + len(outcome.skipped) == MANY for outcome in outcomes)
        assert Counter(await effects(app)) == Counter({("Send", str(number)): 1 for number in range(MANY)})
        assert set((await deeds(app)).values()) == {1}


async def test_a_replay_beside_a_retry_that_is_under_way_does_nothing(make_app: AppFactory) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    repairable = Repairable()

    async def react(handler: object, event: NotedV1) -> None:
        if not repairable.broken:
            began.set()
            await go_on.wait()
        repairable(handler, event)

    mail = module_of("mail", dying(react))
    async with make_app(mail) as app, make_app(mail) as other:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await app.drained()
        repairable.broken = False
        selection, (position,) = await app.dead_letters.select(), await positions(app)
        await app.dead_letters.replay(selection)
        await began.wait()
        # On SQLite they wait until the handler has committed, for there is one writer.
        again = asyncio.create_task(other.dead_letters.replay(selection))
        by_position = asyncio.create_task(other.dead_letters.replay(position))
        await asyncio.wait([again, by_position], timeout=0.2)
        go_on.set()
        outcome = await again
        with pytest.raises(OperationRefusedError, match="none with the status 'dead'"):
            await by_position
        await app.drained()

        assert (outcome.done, list(outcome.skipped)) == (0, [position])
        assert await effects(app) == [("Send", "1")]
        assert list((await deeds(app)).values()) == [1]


async def test_replays_among_live_retries_lead_to_one_effect_each(make_app: AppFactory) -> None:
    """Every second event dies at once, the others fail twice and are on their retries meanwhile."""
    attempts = Counter[str]()
    repaired = False

    def react(handler: object, event: NotedV1) -> None:
        writes(handler, event)
        attempts[event.text] += 1
        if int(event.text) % 2 and not repaired:
            raise PermissionError("closed for good")
        if attempts[event.text] <= 2 and not int(event.text) % 2:
            raise LookupError("not yet")

    policy = RetryPolicy.fixed(9, timedelta(milliseconds=20), permanent=(PermissionError,))
    mail = module_of("mail", dying(react, retry=policy, concurrency=4))
    async with make_app(mail) as app, make_app(mail) as other:
        await app.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(MANY)))
        await eventually(lambda: app.counters.total("died") + other.counters.total("died") >= MANY // 4)
        repaired = True
        while not (await effects(app)) or len(await effects(app)) < MANY:
            selection = await app.dead_letters.select()
            await asyncio.gather(*(one.dead_letters.replay(selection) for one in (app, other)))
        await app.drained()

        assert Counter(await effects(app)) == Counter({("Send", str(number)): 1 for number in range(MANY)})
        assert await rows(app, "parked") == []


async def test_a_purge_during_a_replay_leaves_nothing_half_done(make_app: AppFactory) -> None:
    repairable = Repairable()
    mail = module_of("mail", dying(repairable, concurrency=4))

    async with make_app(mail) as app, make_app(mail) as other:
        await many_dead(app)
        await store(app, 600, subscriber_id="mail.former")
        repairable.broken = False
        selection = await app.dead_letters.select()
        backwards = type(selection)("dead", selection.letters[::-1])
        replay, purge = await asyncio.gather(
            app.dead_letters.replay(selection),
            other.dead_letters.purge(backwards, reason="test", dry_run=False),
        )
        audit = await rows(app, "audit")
        replayed = {one.subject for one in audit if one.action == "replay" and one.subject.startswith("mail.send")}
        await eventually(lambda: all_handled(app, len(replayed)))

        assert replay.done + purge.count == len(selection) == MANY + 600
        assert set(replay.skipped) | set(purge.skipped) == {position for position, _ in selection.letters}
        assert set((await deeds(app)).values()) == {1}
        assert Counter(one.action for one in audit) == Counter(replay=replay.done, purge=purge.count)
        assert len(set(await effects(app))) == len(await effects(app))
        assert {row.status for row in await rows(app, "parked")} <= {"retry"}


async def all_handled(app: MediatorApp, count: int) -> bool:
    left = [row for row in await rows(app, "parked") if row.subscriber_id == "mail.send"]
    return not left and len(await effects(app)) == count


@pytest.mark.databases("postgresql", "mariadb", "psycopg")
async def test_a_letter_that_somebody_has_locked_for_a_moment_is_replayed_when_they_are_done(
    make_app: AppFactory, database_url: str
) -> None:
    """A sweep locks what it looks at, and MariaDB what lies beside it."""
    repairable = Repairable()
    async with make_app(module_of("mail", dying(repairable))) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await app.drained()
        repairable.broken = False
        (position,) = await positions(app)
        async with locked(database_url, position):
            replay = asyncio.create_task(app.dead_letters.replay(position))
            assert not (await asyncio.wait([replay], timeout=0.3))[0]
        assert await replay == 1
        await app.drained()

        assert await effects(app) == [("Send", "1")]


@pytest.mark.databases("postgresql", "mariadb")
async def test_a_letter_that_stays_locked_is_refused_in_the_end(
    make_app: AppFactory, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediator.operations.selections._PATIENCE_SECONDS", 0.2)
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await app.drained()
        (position,) = await positions(app)
        async with locked(database_url, position):
            with pytest.raises(OperationRefusedError, match="somebody else is doing something to it"):
                await app.dead_letters.replay(position)
        with pytest.raises(OperationRefusedError, match="there is none with the status 'dead'"):
            await app.dead_letters.replay(position, position + 99)

        assert [row.status for row in await rows(app, "parked")] == ["dead"]
