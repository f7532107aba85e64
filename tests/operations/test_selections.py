"""A selection holds letters as they were: what changed since is left alone, and said to be."""

import asyncio
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest

from mediator import DeadLetterSelection, Runtime
from mediator.errors import OperationRefusedError
from tests.consuming.notes import listener, rows
from tests.operations.letters import Repairable, die, dying, positions, store
from tests.support import AppFactory, effects, module_of
from tests.support.databases import execute

CHANGED = "it was replayed, decided on or removed meanwhile"


async def test_it_is_replayed_for_the_one_handler_that_failed(make_app: AppFactory) -> None:
    repairable, other = Repairable(), Repairable()
    other.broken = False

    async with make_app(module_of("mail", dying(repairable), listener("Count", other))) as app:
        await die(app, "1", "2")
        repairable.broken = False
        outcome = await app.dead_letters.replay(await app.dead_letters.select(), actor="ada", reason="repaired")
        await app.drained()

        assert (outcome.done, outcome.skipped) == (2, {})
        assert sorted(await effects(app)) == [("Count", "1"), ("Count", "2"), ("Send", "1"), ("Send", "2")]
        assert other.calls == 2
        assert [(one.actor, one.action, one.reason) for one in await app.dead_letters.audit()] == [
            ("ada", "replay", "repaired")
        ] * 2


async def test_what_dies_later_is_not_in_it(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable))) as app:
        await die(app, "1")
        selection = await app.dead_letters.select()
        await die(app, "2")
        repairable.broken = False
        outcome = await app.dead_letters.replay(selection)
        await app.drained()

        assert (len(selection), outcome.done) == (1, 1)
        assert await effects(app) == [("Send", "1")]


async def test_what_died_again_was_discarded_or_is_gone_is_skipped(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable))) as app:
        await die(app, "1", "2", "3", "4")
        letters, again, discarded, gone, left = app.dead_letters, *await positions(app)
        selection = await letters.select()
        await letters.replay(again)
        await app.drained()
        await letters.discard(discarded, reason="test")
        repairable.broken = False
        await letters.replay(gone)
        await app.drained()
        calls = repairable.calls

        outcome = await letters.replay(selection)
        await app.drained()

        assert outcome.done == 1
        assert outcome.skipped == dict.fromkeys((again, discarded, gone), CHANGED)
        assert repairable.calls == calls + 1
        assert await positions(app) == [again]
        assert left not in outcome.skipped


async def test_a_decision_that_was_taken_back_is_a_change_as_well(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        (position,) = await store(app, 1)
        await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET died_at = 1")
        selection = await app.dead_letters.select()
        await app.dead_letters.discard(position, reason="test")
        await app.dead_letters.restore(position)

        assert (await app.dead_letters.discard(selection, reason="test")).skipped == {position: CHANGED}


async def test_discard_and_restore(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        every = await store(app, 3)

        outcome = await app.dead_letters.discard(await app.dead_letters.select(limit=2), reason="test")
        assert (outcome.done, await positions(app)) == (2, [every[2]])

        outcome = await app.dead_letters.restore(await app.dead_letters.select(status="discarded"))
        assert (outcome.done, await positions(app)) == (2, every)


async def test_a_discard_lets_the_followers_go(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable, ordering="key"))) as app:
        await die(app, "a1", "a2")
        await die(app, "b1", "b2", account="b")
        repairable.broken = False
        await app.dead_letters.discard(await app.dead_letters.select(), reason="test")
        await app.drained()

        assert sorted(await effects(app)) == [("Send", "a2"), ("Send", "b2")]


async def test_what_is_too_old_is_skipped_unless_it_is_forced(make_app: AppFactory) -> None:
    later = [timedelta(0)]
    runtime = Runtime(now=lambda: datetime.now(UTC) + later[0])

    async with make_app(module_of("mail", dying(Repairable())), runtime=runtime) as app:
        await die(app, "1")
        later[0] = timedelta(days=31)
        selection = await app.dead_letters.select()
        outcome = await app.dead_letters.replay(selection)

        assert outcome.done == 0
        assert list(outcome.skipped.values()) == ["it is 31 days old and deduplication reaches back 30 days"]
        assert await rows(app, "audit") == []
        assert (await app.dead_letters.replay(selection, force=True)).done == 1


async def test_one_that_cannot_be_sent_again_does_not_keep_the_others(make_app: AppFactory) -> None:
    repairable = Repairable()

    async with make_app(module_of("mail", dying(repairable))) as app:
        (unreadable,) = await store(app, 1, subscriber_id="@outbox")
        await die(app, "1")
        repairable.broken = False
        outcome = await app.dead_letters.replay(await app.dead_letters.select())
        await app.drained()

        assert outcome.done == 1
        assert list(outcome.skipped) == [unreadable] == await positions(app)
        assert "header" in outcome.skipped[unreadable]


async def test_it_cannot_be_changed(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await store(app, 1)
        selection = await app.dead_letters.select()

        assert isinstance(selection, DeadLetterSelection)
        with pytest.raises(FrozenInstanceError):
            selection.letters = ()  # type: ignore[misc]


@pytest.mark.parametrize(("deed", "status"), [("replay", "discarded"), ("discard", "discarded"), ("restore", "dead")])
async def test_letters_of_another_status_are_refused(make_app: AppFactory, deed: str, status: str) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        selection = DeadLetterSelection(status, ())  # type: ignore[arg-type]
        with pytest.raises(OperationRefusedError, match=f"{deed} of a selection refused: it holds letters with the"):
            await getattr(app.dead_letters, deed)(selection, reason="test")


class Counting:
    """Counts the transactions of a replay, and breaks one of them off."""

    def __init__(self, breaks: int = 0) -> None:
        self.reached, self.breaks = 0, breaks

    def __call__(self, place: str) -> None:
        if place == "replay.midway":
            self.reached += 1
            if self.reached == self.breaks:
                raise KeyboardInterrupt


async def test_many_letters_are_many_transactions(make_app: AppFactory) -> None:
    counting = Counting()

    async with make_app(module_of("bank", dying(Repairable())), runtime=Runtime(reached=counting)) as app:
        await store(app, 1_100)
        outcome = await app.dead_letters.replay(await app.dead_letters.select())

        assert outcome.done == 1_100
        assert counting.reached == 6
        assert len(await rows(app, "audit")) == 1_100


async def test_what_ends_the_process_leaves_each_letter_done_or_untouched(make_app: AppFactory) -> None:
    counting = Counting(breaks=2)

    async with make_app(module_of("bank", dying(Repairable())), runtime=Runtime(reached=counting)) as app:
        every = await store(app, 500)
        selection = await app.dead_letters.select()
        with pytest.raises(KeyboardInterrupt):
            await app.dead_letters.replay(selection)
        assert await positions(app, limit=1_000) == every[200:]
        assert len(await rows(app, "audit")) == 200

        outcome = await app.dead_letters.replay(selection)

        assert (outcome.done, set(outcome.skipped)) == (300, set(every[:200]))
        assert len(await rows(app, "audit")) == 500


async def test_a_group_is_replayed_in_as_many_transactions(make_app: AppFactory) -> None:
    counting = Counting()

    async with make_app(module_of("bank", dying(Repairable())), runtime=Runtime(reached=counting)) as app:
        await store(app, 300, fingerprint="f")
        await store(app, 1, fingerprint="g")

        assert await app.dead_letters.replay_group("f") == 300
        assert counting.reached == 2
        assert len(await positions(app)) == 1
