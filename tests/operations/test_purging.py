"""A purge removes for ever what was selected, and nothing else; a dry run says what that would be."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from mediator import DeadLetterSelection
from mediator.errors import SettingsError
from tests.consuming.notes import NotedV1, rows
from tests.operations.letters import Repairable, die, dying, positions, store
from tests.support import AppFactory, effects, module_of
from tests.support.databases import execute


async def test_a_dry_run_tells_and_removes_nothing(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await store(app, 2)
        every = await store(app, 1, subscriber_id="mail.count")
        await asyncio.to_thread(
            execute, database_url, f"UPDATE mediator_parked SET died_at = 1 + {every[2]} - position"
        )
        purge = await app.dead_letters.purge(await app.dead_letters.select(), reason="test")

        assert (purge.dry_run, purge.count, purge.by_subscriber) == (True, 3, {"mail.send": 2, "mail.count": 1})
        assert purge.oldest == datetime(1970, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)
        assert purge.skipped == {}
        assert await positions(app) == every
        assert await rows(app, "audit") == []


async def test_there_may_be_nothing_to_purge(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        purge = await app.dead_letters.purge(await app.dead_letters.select(), reason="test", dry_run=False)

        assert (purge.count, purge.oldest, purge.by_subscriber) == (0, None, {})


async def test_what_was_selected_is_gone_and_in_the_audit_trail(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        every = await store(app, 450)
        selection = await app.dead_letters.select(limit=400)
        left = [row.event_id for row in (await rows(app, "parked"))[400:]]
        purge = await app.dead_letters.purge(selection, reason="too many", actor="ada", dry_run=False)

        assert (purge.dry_run, purge.count, purge.by_subscriber) == (False, 400, {"mail.send": 400})
        assert await positions(app) == every[400:]
        audit = await rows(app, "audit")
        assert {(one.actor, one.action, one.reason) for one in audit} == {("ada", "purge", "too many")}
        assert len({one.subject for one in audit}) == 400
        assert not {f"mail.send {identity}" for identity in left} & {one.subject for one in audit}


async def test_only_what_was_discarded_long_ago(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        old, new, dead = await store(app, 3)
        await app.dead_letters.discard(old, new, reason="test")
        await asyncio.to_thread(execute, database_url, f"UPDATE mediator_parked SET died_at = 1 WHERE position = {old}")
        before = datetime(2_000, 1, 1, tzinfo=UTC)
        selection = await app.dead_letters.select(status="discarded", died_before=before)
        await app.dead_letters.purge(selection, reason="test", dry_run=False)

        assert await positions(app, status="discarded") == [new]
        assert await positions(app) == [dead]


async def test_what_is_alive_again_stays(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        app.pause("mail.send")
        alive, _ = await store(app, 2)
        selection = await app.dead_letters.select()
        await app.dead_letters.replay(alive)
        purge = await app.dead_letters.purge(selection, reason="test", dry_run=False)

        assert (purge.count, list(purge.skipped)) == (1, [alive])
        assert [(row.position, row.status) for row in await rows(app, "parked")] == [(alive, "retry")]


@pytest.mark.parametrize("status", ["retry", "blocked", "DEAD", ""])
async def test_what_is_still_tried_cannot_be_selected(make_app: AppFactory, status: Any) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        with pytest.raises(SettingsError, match=f"status = '{status}' cannot work: use one of dead, discarded"):
            await app.dead_letters.list(status=status)
        with pytest.raises(SettingsError):
            DeadLetterSelection(status, ())


async def test_what_waits_behind_it_goes_on(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable, ordering="key"))) as app:
        await die(app, "a1", "a2", "a3")
        repairable.broken = False
        await app.dead_letters.purge(await app.dead_letters.select(), reason="test")
        assert [row.status for row in await rows(app, "parked")] == ["dead", "blocked", "blocked"]

        await app.dead_letters.purge(await app.dead_letters.select(), reason="test", dry_run=False)
        await app.drained()

        assert [text for _, text in await effects(app)] == ["a2", "a3"]


async def test_its_event_stays_handled(make_app: AppFactory) -> None:
    event, repairable = NotedV1(text="1", correlation_id="c"), Repairable()

    async with make_app(module_of("mail", dying(repairable))) as app:
        await app.publish_in_own_transaction(event)
        await app.drained()
        await app.dead_letters.purge(await app.dead_letters.select(), reason="test", dry_run=False)
        await app.publish_in_own_transaction(event)
        await app.drained()

        assert repairable.calls == 1
