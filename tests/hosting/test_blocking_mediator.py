"""Synchronous callers. These tests are plain functions: there is no loop in their thread."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import (
    BlockingMediator,
    Command,
    CommandHandler,
    MediatorApp,
    Module,
    Query,
    QueryHandler,
    StreamQuery,
    StreamQueryHandler,
)
from mediator.errors import DrainTimeoutError, HandlerNotFoundError, NotRunningError, UsageError, WiringError
from tests.consuming.notes import NotedV1, at_once, listener, writes
from tests.support import Effect, create_tables, module_of, quick_settings


@dataclass(frozen=True)
class Note(Command[str]):
    text: str = ""


@dataclass(frozen=True)
class Notes(Query[list[str]]):
    pass


@dataclass(frozen=True)
class EachNote(StreamQuery[str]):
    fails_after: int = 99


class NoteHandler(CommandHandler[Note, str]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Note) -> str:
        self.session.add(Effect(what="noted", detail=command.text))
        await self.session.flush()
        if not command.text:
            raise ValueError("nothing to note")
        return threading.current_thread().name


class NotesHandler(QueryHandler[Notes, list[str]]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: Notes) -> list[str]:
        return [effect.detail for effect in await self.session.exec(select(Effect).order_by(Effect.detail))]


class EachNoteHandler(StreamQueryHandler[EachNote, str]):
    open = 0

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: EachNote) -> AsyncGenerator[str, None]:
        type(self).open += 1
        try:
            for number in range(3):
                if number == query.fails_after:
                    raise LookupError("no more")
                # A statement for each answer, so that the session is used between two of them.
                found = await self.session.exec(select(Effect).order_by(Effect.detail).offset(number).limit(1))
                yield found.one().detail
        finally:
            type(self).open -= 1


def app_on(url: str, *modules: Module) -> MediatorApp:
    asyncio.run(create_tables(url))
    bank = module_of("bank", Note, Notes, EachNote, NoteHandler, NotesHandler, EachNoteHandler)
    return MediatorApp("shop", modules=[bank, *modules], database=url, environment="test", settings=quick_settings())


def test_commands_and_queries(database_url: str) -> None:
    with BlockingMediator(app_on(database_url)) as mediator:
        thread = mediator.send(Note("x"))

        assert mediator.send(Notes()) == ["x"]
        assert thread != threading.current_thread().name


def test_an_error_of_the_handler_is_raised_here(database_url: str) -> None:
    with BlockingMediator(app_on(database_url)) as mediator:
        with pytest.raises(ValueError, match="nothing to note"):
            mediator.send(Note(""))
        assert mediator.send(Notes()) == []


def test_a_message_that_nobody_handles(database_url: str) -> None:
    @dataclass(frozen=True)
    class Unheard(Command[None]):
        pass

    with BlockingMediator(app_on(database_url)) as mediator, pytest.raises(HandlerNotFoundError, match="Unheard"):
        mediator.send(Unheard())


def test_many_threads_may_share_it(database_url: str) -> None:
    with BlockingMediator(app_on(database_url)) as mediator, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: mediator.send(Note(f"{number:02}")), range(40)))

        assert mediator.send(Notes()) == [f"{number:02}" for number in range(40)]


class TestStreams:
    def test_answers_come_one_by_one(self, database_url: str) -> None:
        with BlockingMediator(app_on(database_url)) as mediator:
            for text in "abc":
                mediator.send(Note(text))

            assert list(mediator.stream(EachNote())) == ["a", "b", "c"]

    def test_between_two_answers_other_things_can_be_sent(self, database_url: str) -> None:
        with BlockingMediator(app_on(database_url)) as mediator:
            for text in "abc":
                mediator.send(Note(text))
            found = []
            for answer in mediator.stream(EachNote()):
                found.append(answer)
                mediator.send(Note(f"z{answer}"))

            assert found == ["a", "b", "c"]
            assert len(mediator.send(Notes())) == 6

    def test_an_error_between_two_answers(self, database_url: str) -> None:
        with BlockingMediator(app_on(database_url)) as mediator:
            mediator.send(Note("a"))
            answers = mediator.stream(EachNote(fails_after=1))

            assert next(answers) == "a"
            with pytest.raises(LookupError, match="no more"):
                next(answers)

    def test_a_stream_that_is_left_early_is_closed(self, database_url: str) -> None:
        with BlockingMediator(app_on(database_url)) as mediator:
            mediator.send(Note("a"))
            # More than there are connections for reading: each has to be given back.
            for _ in range(10):
                answers = mediator.stream(EachNote())
                assert next(answers) == "a"
                answers.close()
                assert EachNoteHandler.open == 0


@pytest.mark.timeout(60)
def test_a_stream_that_is_still_open_does_not_hold_the_exit(database_url: str) -> None:
    with BlockingMediator(app_on(database_url)) as mediator:
        mediator.send(Note("a"))
        answers = mediator.stream(EachNote())
        assert next(answers) == "a"

    assert EachNoteHandler.open == 0
    answers.close()


def test_publishing_and_draining(database_url: str) -> None:
    with BlockingMediator(app_on(database_url, module_of("mail", listener("Send", writes)))) as mediator:
        mediator.publish_in_own_transaction(NotedV1(text="x"))
        mediator.drained()

        assert mediator.send(Notes()) == ["x"]


def test_what_is_not_drained_is_named(database_url: str) -> None:
    def fails(*_: object) -> None:
        raise LookupError("not yet")

    handler = listener("Send", fails, retry=at_once(5).fixed(5, timedelta(hours=1)))
    with BlockingMediator(app_on(database_url, module_of("mail", handler))) as mediator:
        mediator.publish_in_own_transaction(NotedV1())
        with pytest.raises(DrainTimeoutError, match=r"1 retries of mail\.send"):
            mediator.drained(timedelta(milliseconds=500))


def test_before_and_after_it_is_refused(database_url: str) -> None:
    mediator = BlockingMediator(app_on(database_url))

    with pytest.raises(NotRunningError, match=r"send\(\) needs a running application"):
        mediator.send(Notes())
    with mediator:
        assert mediator.send(Notes()) == []
    with pytest.raises(NotRunningError, match=r"send\(\)"):
        mediator.send(Notes())
    with pytest.raises(NotRunningError, match=r"stream\(\)"):
        next(mediator.stream(EachNote()))


def test_it_can_be_entered_again(database_url: str) -> None:
    mediator = BlockingMediator(app_on(database_url))

    for text in ("a", "b"):
        with mediator:
            mediator.send(Note(text))
    with mediator:
        assert mediator.send(Notes()) == ["a", "b"]


def test_entering_it_twice_is_refused_and_does_no_harm(database_url: str) -> None:
    with BlockingMediator(app_on(database_url)) as mediator:
        with pytest.raises(UsageError, match="running already"):
            mediator.__enter__()

        assert mediator.send(Notes()) == []


def test_a_start_that_fails_leaves_no_thread_behind(database_url: str) -> None:
    before = set(threading.enumerate())
    app = app_on(database_url, Module("broken", package="no_such_package"))

    with pytest.raises(WiringError, match="no_such_package"):
        BlockingMediator(app).__enter__()

    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_an_error_in_the_block_stops_the_application(database_url: str) -> None:
    app = app_on(database_url)

    with pytest.raises(ZeroDivisionError), BlockingMediator(app):
        raise ZeroDivisionError

    with pytest.raises(NotRunningError):
        _ = app.transport


def test_calling_it_from_the_loop_itself_is_refused_instead_of_waiting_for_ever(database_url: str) -> None:
    @dataclass(frozen=True)
    class Again(Command[None]):
        pass

    class AgainHandler(CommandHandler[Again, None]):
        async def handle(self, command: Again) -> None:
            portal.send(Notes())

    app = app_on(database_url, module_of("again", Again, AgainHandler))
    with BlockingMediator(app) as portal, pytest.raises((UsageError, RuntimeError), match=r"thread|loop"):
        portal.send(Again())
