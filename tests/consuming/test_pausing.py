import asyncio

import pytest

from mediator import MessageContext
from mediator.errors import NotRunningError, SettingsError, UsageError
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of


async def test_a_paused_handler_rests_and_the_others_work(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes), listener("Count", writes))) as app:
        app.pause("mail.send")
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("Count", "x")]
        assert await rows(app, "outbox") == []
        assert [(row.subscriber_id, row.attempts) for row in await rows(app, "parked")] == [("mail.send", 0)]


async def test_after_resuming_it_does_what_was_kept_as_a_first_attempt(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    def react(handler: object, event: NotedV1) -> None:
        contexts.append(handler.context)  # type: ignore[attr-defined]
        writes(handler, event)

    async with make_app(module_of("mail", listener("Send", react))) as app:
        app.pause("mail.send")
        await app.publish_in_own_transaction(NotedV1(text="one"))
        await app.drained()
        app.resume("mail.send")
        await app.publish_in_own_transaction(NotedV1(text="two"))
        await app.drained()

        assert sorted(await effects(app)) == [("Send", "one"), ("Send", "two")]
        assert [context.attempt for context in contexts] == [1, 1]
        assert await rows(app, "parked") == []


async def test_its_retries_rest_too(make_app: AppFactory) -> None:
    attempts: list[int] = []

    def react(handler: object, _event: NotedV1) -> None:
        attempts.append(1)
        app.pause("mail.send")
        raise LookupError("not yet")

    async with make_app(module_of("mail", listener("Send", react, retry=at_once(2)))) as app:
        await app.publish_in_own_transaction(NotedV1())
        await app.drained()
        assert attempts == [1]

        app.resume("mail.send")
        await app.drained()
        assert attempts == [1, 1]


async def test_what_is_under_way_is_finished(make_app: AppFactory) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def react(handler: object, event: NotedV1) -> None:
        entered.set()
        await leave.wait()
        writes(handler, event)

    async with make_app(module_of("mail", listener("Send", react))) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await entered.wait()
        app.pause("mail.send")
        leave.set()
        await app.drained()

        assert await effects(app) == [("Send", "x")]


async def test_what_was_kept_survives_a_restart(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        app.pause("mail.send")
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        await app.drained()

        assert await effects(app) == [("Send", "x")]


async def test_a_duplicate_of_what_is_kept_is_skipped(make_app: AppFactory) -> None:
    event = NotedV1(text="x", correlation_id="c")

    async with make_app(module_of("mail", listener("Send", writes))) as app:
        app.pause("mail.send")
        for _ in range(2):
            await app.publish_in_own_transaction(event)
            await app.drained()
        app.resume("mail.send")
        await app.drained()

        assert await effects(app) == [("Send", "x")]
        await eventually(lambda: app.counters.total("duplicate_skipped") == 1)


async def test_pausing_twice_is_pausing_once(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        app.pause("mail.send")
        app.pause("mail.send")
        app.resume("mail.send")
        app.resume("mail.send")
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("Send", "x")]


@pytest.mark.parametrize("call", ["pause", "resume"])
async def test_an_unknown_handler_is_named_with_those_there_are(make_app: AppFactory, call: str) -> None:
    app = make_app(module_of("mail", listener("Send", writes)))

    async with app:
        with pytest.raises(SettingsError, match=r"name = 'mail.sent' cannot work: .*mail\.send, mail, @relay"):
            getattr(app, call)("mail.sent")
        with pytest.raises(SettingsError, match=r"mail\.sent"):
            await getattr(app, f"{call}_everywhere")("mail.sent")
    with pytest.raises(NotRunningError, match=call):
        getattr(app, call)("mail.send")


async def test_a_module_rests_as_a_whole(make_app: AppFactory) -> None:
    mail = module_of("mail", listener("Send", writes), listener("Count", writes))
    async with make_app(mail, module_of("audit", listener("Note", writes))) as app:
        app.pause("mail")
        app.pause("mail.count")
        assert app.paused == {"mail.send", "mail.count"}
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()
        assert await effects(app) == [("Note", "x")]

        app.resume("mail")
        await app.drained()
        assert await effects(app) == [("Note", "x"), ("Send", "x")]


async def test_relays_rest_while_everything_else_works(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        app.pause("@relay")
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await asyncio.sleep(0.3)
        await app.drained()
        assert len(await rows(app, "outbox")) == 1

        app.resume("@relay")
        await app.drained()
        assert await effects(app) == [("Send", "x")]


async def test_a_pause_everywhere_reaches_the_other_processes(make_app: AppFactory) -> None:
    mail = module_of("mail", listener("Send", writes))
    async with make_app(mail) as here, make_app(mail) as there:
        await here.pause_everywhere("mail.send")
        assert here.paused == {"mail.send"}
        await eventually(lambda: there.paused == {"mail.send"})
        await there.publish_in_own_transaction(NotedV1(text="x"))
        await there.drained()
        assert await effects(there) == []

        here.resume("mail.send")
        assert here.paused == {"mail.send"}
        await there.resume_everywhere("mail.send")
        await eventually(lambda: not here.paused)
        await here.drained()
        assert await effects(here) == [("Send", "x")]


async def test_a_pause_everywhere_survives_a_restart_and_says_who_wanted_it(make_app: AppFactory) -> None:
    mail = module_of("mail", listener("Send", writes))
    async with make_app(mail) as app:
        await app.pause_everywhere("mail", actor="ada", reason="the printer is broken")
    async with make_app(mail) as app:
        assert app.paused == {"mail.send"}
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()
        assert await effects(app) == []

        await app.resume_everywhere("mail", actor="bob")
        await app.drained()
        assert await effects(app) == [("Send", "x")]
        trail = [(entry.actor, entry.action, entry.subject, entry.reason) for entry in await app.dead_letters.audit()]
        assert trail == [("bob", "resume", "mail", None), ("ada", "pause", "mail", "the printer is broken")]


async def test_one_that_is_ended_or_begun_by_several_is_written_down_once(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        await asyncio.gather(*(app.pause_everywhere("mail.send") for _ in range(3)))
        await asyncio.gather(*(app.resume_everywhere("mail.send") for _ in range(3)))

        assert app.paused == frozenset()
        assert [entry.action for entry in await app.dead_letters.audit()] == ["resume", "pause"]


@pytest.mark.parametrize("call", ["pause_everywhere", "resume_everywhere"])
async def test_nobody_pauses_everywhere_inside_a_unit_of_work(make_app: AppFactory, call: str) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app, app.unit_of_work():
        with pytest.raises(UsageError, match=call):
            await getattr(app, call)("mail.send")
