"""What is known of each attempt: its number, its moment and its error, even of one that killed its process."""

import asyncio
from datetime import timedelta
from typing import Any

from mediator import MediatorApp, PermanentError, RetryPolicy
from mediator.errors import PublishRefusedError
from mediator.storage.parked import ParkedTable
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, at_once, eventually, writes
from tests.operations.letters import Repairable, die, dying, positions
from tests.support import AppFactory, module_of, quick_settings
from tests.support.databases import execute


async def attempts(app: MediatorApp) -> list[tuple[int, str | None, str | None]]:
    (letter,) = await app.dead_letters.list()
    return [(one.number, one.error_type, one.error) for one in letter.history]


async def test_every_attempt_is_kept_with_its_moment_and_its_error(make_app: AppFactory) -> None:
    calls: list[int] = []

    def react(handler: object, _event: NotedV1) -> None:
        calls.append(1)
        raise PermanentError("closed for good") if len(calls) == 3 else LookupError(f"closed, the {len(calls)}.")

    async with make_app(module_of("mail", dying(react, retry=at_once(5)))) as app:
        await die(app, "1")
        (letter,) = await app.dead_letters.list()

        assert await attempts(app) == [
            (1, "builtins.LookupError", "closed, the 1."),
            (2, "builtins.LookupError", "closed, the 2."),
            (3, "mediator.errors.PermanentError", "closed for good"),
        ]
        moments = [one.at for one in letter.history]
        assert letter.parked_at - timedelta(seconds=1) <= moments[0] <= moments[1] <= moments[2] <= letter.died_at
        assert letter.error == letter.history[-1].error


async def test_the_first_attempt_may_be_the_last(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "1")

        assert await attempts(app) == [(1, "builtins.LookupError", "account 1 is closed")]


async def test_an_attempt_in_which_the_process_died_says_nothing(make_app: AppFactory, database_url: str) -> None:
    later = RetryPolicy.fixed(4, timedelta(hours=1))
    async with make_app(module_of("mail", dying(Repairable(), retry=later))) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await eventually(lambda: app.counters.total("parked", "mail.send"))
        # As a process leaves it that is killed in its attempt.
        position = 1
        assert await ParkedTable(app.dead_letters._database).claim(position, 1, timedelta(hours=1))
    await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET next_attempt_at = 0")
    async with make_app(module_of("mail", dying(Repairable(), retry=at_once(3)))) as app:
        await app.drained()

        assert await attempts(app) == [
            (1, "builtins.LookupError", "account 1 is closed"),
            (2, None, None),
            (3, "builtins.LookupError", "account 1 is closed"),
        ]


async def test_the_attempts_before_a_replay_are_kept(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable(), retry=at_once(2)))) as app:
        await die(app, "1")
        await app.dead_letters.replay(*await positions(app))
        await app.drained()

        assert [number for number, *_ in await attempts(app)] == [1, 2, 1, 2]


async def test_a_message_that_nobody_could_read_was_never_tried(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("mail", dying(Repairable(), retry=RetryPolicy.fixed(2, timedelta(hours=1))))) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await eventually(lambda: app.counters.total("parked", "mail.send"))
    await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET next_attempt_at = 0, headers = '{}'")
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await app.drained()
        (letter,) = await app.dead_letters.list()

        assert letter.reason == "unreadable: header missing"
        assert await attempts(app) == [(1, "builtins.LookupError", "account 1 is closed")]


class Refusing(MemoryTransport):
    """Refuses whatever it is given."""

    async def publish(self, batch: Any) -> Any:
        for envelope in batch:
            yield envelope, PublishRefusedError("memory", envelope.topic, "too large")


async def test_of_what_was_not_sent_the_last_attempt_is_known(make_app: AppFactory) -> None:
    settings = quick_settings(relay={"retry": at_once(3), "poll": timedelta(milliseconds=50)})

    async with make_app(module_of("mail", dying(writes)), transport=Refusing(), settings=settings) as app:
        await die(app, "1")
        (letter,) = await app.dead_letters.list()

        assert letter.attempts == 3
        assert await attempts(app) == [(3, letter.error_type, letter.error)]
