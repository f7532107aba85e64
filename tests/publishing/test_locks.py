"""Command locks: one command per key at a time, over all processes, and nothing of a lock outlives its holder."""

import asyncio
import contextvars
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio
from sqlmodel import select

from mediator import Command, CommandHandler, Mediator, MediatorApp, Query, QueryHandler, UnitOfWork
from mediator.errors import (
    LockTimeoutError,
    NestedCommandFailedError,
    UnitOfWorkClosedError,
    UnitOfWorkRequiredError,
    UsageError,
)
from tests.consuming.notes import NotedV1, eventually, listener, writes
from tests.publishing.lockers import KEYS, account_of, run
from tests.support import Account, AppFactory, Effect, effects, module_of, quick_settings

# On SQLite one transaction writes at a time anyway: there is nothing to lock, and only what is refused is tested.
pytestmark = pytest.mark.databases("postgresql", "mariadb")

COMMANDS = int(os.environ.get("LOCKED_COMMANDS") or 100)
SOON, LATE = timedelta(seconds=0.3), timedelta(seconds=30)


@dataclass(frozen=True)
class Guarded(Command[str]):
    keys: Any
    work: Callable[[UnitOfWork, Mediator], Any] | None = None


class GuardedHandler(CommandHandler[Guarded, str]):
    lock_timeout = SOON

    def __init__(self, uow: UnitOfWork, mediator: Mediator) -> None:
        self._uow, self._mediator = uow, mediator

    def lock_keys(self, command: Guarded) -> Iterable[str]:
        keys: Iterable[str] = command.keys
        return keys

    async def handle(self, command: Guarded) -> str:
        if command.work is not None:
            await command.work(self._uow, self._mediator)
        return "done"


@dataclass(frozen=True)
class Patient(Command[str]):
    keys: tuple[str, ...]


class PatientHandler(CommandHandler[Patient, str]):
    lock_timeout = LATE

    def lock_keys(self, command: Patient) -> Iterable[str]:
        return command.keys

    async def handle(self, command: Patient) -> str:
        return "done"


@dataclass(frozen=True)
class Peek(Query[None]):
    pass


class PeekHandler(QueryHandler[Peek, None]):
    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def handle(self, query: Peek) -> None:
        await self._uow.lock("a")


MODULE = module_of("vault", Guarded, GuardedHandler, Patient, PatientHandler, Peek, PeekHandler)


class Holder:
    """A command that has its keys until it may end."""

    def __init__(self, app: MediatorApp, *keys: str) -> None:
        self._app, self._keys = app, keys
        self._has_them, self._may_end = asyncio.Event(), asyncio.Event()
        self._fails = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._app.mediator.send(Guarded(self._keys, self._hold)))
        has_them = asyncio.create_task(self._has_them.wait())
        await asyncio.wait([self._task, has_them], return_when=asyncio.FIRST_COMPLETED)
        assert has_them.done()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Commit."""
        self._may_end.set()
        await asyncio.gather(self._task, return_exceptions=True)

    async def fail(self) -> None:
        """Roll back."""
        self._fails = True
        await self.end()
        assert isinstance(self._task.exception(), ZeroDivisionError)

    async def _hold(self, _uow: UnitOfWork, _mediator: Mediator) -> None:
        self._has_them.set()
        await self._may_end.wait()
        if self._fails:
            raise ZeroDivisionError


@pytest_asyncio.fixture
async def app(make_app: AppFactory) -> AsyncIterator[MediatorApp]:
    async with make_app(MODULE, schema="create", roles={"publish"}) as app:
        yield app


@pytest_asyncio.fixture(params=["the same application", "another application"])
async def rival(request: pytest.FixtureRequest, app: MediatorApp, make_app: AppFactory) -> AsyncIterator[MediatorApp]:
    """Where the other command is."""
    if request.param == "the same application":
        yield app
        return
    async with make_app(MODULE, schema="verify", roles={"publish"}) as rival:
        yield rival


@pytest.mark.every_database
async def test_commands_of_two_processes_have_a_key_one_after_the_other(
    database_url: str, make_app: AppFactory, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    record_property("seed", seed)
    async with make_app(MODULE, schema="create") as app, app.unit_of_work() as uow:
        uow.session.add_all(Account(id=account_of(key)) for key in KEYS)

    programs = [run("many", database_url, tmp_path, seed + number, COMMANDS) for number in range(2)]
    outputs = [(await asyncio.to_thread(program.communicate))[0].split() for program in programs]

    assert [program.returncode for program in programs] == [0, 0]
    done = [[int(number) for number in output] for output in outputs]
    assert [overlaps for overlaps, *_ in done] == [0, 0]
    expected = {account_of(key): done[0][place] + done[1][place] for place, key in enumerate(KEYS, 1)}
    async with make_app(MODULE) as app, app.unit_of_work() as uow:
        accounts = (await uow.session.exec(select(Account))).all()
        assert {account.id: account.balance for account in accounts} == expected
    assert min(expected.values()) > 0


async def test_the_key_of_a_process_that_is_killed_is_free_at_once(
    app: MediatorApp, database_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    program = run("hold", database_url, tmp_path, "a", "b")
    assert program.stdout is not None
    assert await asyncio.to_thread(program.stdout.readline) == "held\n"
    waiting = asyncio.create_task(app.mediator.send(Patient(("b",))))
    await asyncio.sleep(0.5)
    assert not waiting.done()

    killed_at = time.monotonic()
    program.kill()
    assert await waiting == "done"

    record_property("seconds_until_free", time.monotonic() - killed_at)
    assert time.monotonic() - killed_at < 10
    program.communicate()


async def test_whoever_waits_gets_the_key_when_it_is_committed(app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, "a") as holder:
        waiting = asyncio.create_task(app.mediator.send(Patient(("a",))))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await holder.end()

        assert await waiting == "done"


async def test_whoever_waits_gets_the_key_when_it_is_rolled_back(app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, "a") as holder:
        waiting = asyncio.create_task(app.mediator.send(Patient(("a",))))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await holder.fail()

        assert await waiting == "done"


async def test_other_keys_are_not_waited_for(app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, "a", "b"):
        assert await app.mediator.send(Guarded(("c", "ab", "A"))) == "done"


@pytest.mark.parametrize("keys", [("a",), ("0", "a"), ("b", "a", "b")])
async def test_a_key_that_is_not_obtained_in_time_is_named(
    keys: tuple[str, ...], app: MediatorApp, rival: MediatorApp
) -> None:
    entered = []

    async def work(_uow: UnitOfWork, _mediator: Mediator) -> None:
        entered.append("inside")

    async with Holder(rival, "a"):
        with pytest.raises(LockTimeoutError) as caught:
            await app.mediator.send(Guarded(keys, work))

        error = caught.value
        assert (error.key, error.timeout) == ("a", SOON)
        assert "the lock 'a' was not obtained within 0.3 s" in str(error)
        assert "lock_timeout" in str(error)
        assert entered == []
    # Nothing of it is left: not even the keys that it had obtained.
    assert await app.mediator.send(Guarded(keys)) == "done"


@pytest.mark.every_database
@pytest.mark.parametrize("timeout", [5, None, "3s", timedelta(microseconds=-1)])
async def test_a_timeout_that_cannot_work_is_refused(timeout: Any, app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        with pytest.raises(UsageError, match="use a timedelta") as caught:
            await uow.lock("a", timeout=timeout)

        assert repr(timeout) in str(caught.value)


@pytest.mark.every_database
@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(milliseconds=1)])
async def test_a_free_key_is_obtained_without_patience(timeout: timedelta, app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        await uow.lock("a", "b", timeout=timeout)
        await uow.lock("a", timeout=timeout)
        uow.session.add(Effect(what="locked"))

    assert await effects(app) == [("locked", "")]


async def test_a_unit_of_work_goes_on_without_the_key_that_it_did_not_obtain(
    app: MediatorApp, rival: MediatorApp
) -> None:
    async with Holder(rival, "a"), app.unit_of_work() as uow:
        uow.session.add(Effect(what="before"))
        await uow.session.flush()
        with pytest.raises(LockTimeoutError):
            await uow.lock("a", timeout=timedelta(milliseconds=100))
        uow.session.add(Effect(what="after"))

    assert await effects(app) == [("before", ""), ("after", "")]


async def test_a_unit_of_work_by_hand_locks_as_well(app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, "a"):
        with pytest.raises(LockTimeoutError, match="'a'"):
            await locks(app, "a")

    await locks(app, "a")


async def locks(app: MediatorApp, *keys: Any) -> None:
    async with app.unit_of_work() as uow:
        await uow.lock(*keys, timeout=SOON)


@pytest.mark.parametrize("inner", [("a",), ("b",), ("a", "b", "c")])
async def test_a_nested_command_shares_the_locks_and_adds_its_own(
    inner: tuple[str, ...], app: MediatorApp, rival: MediatorApp
) -> None:
    results = []

    async def nest(_uow: UnitOfWork, mediator: Mediator) -> None:
        results.append(await mediator.send(Guarded(inner, meanwhile)))
        # The inner command has ended, its unit of work goes on.
        await meanwhile(_uow, mediator)

    async def meanwhile(_uow: UnitOfWork, _mediator: Mediator) -> None:
        for key in {"a", *inner}:
            with pytest.raises(LockTimeoutError):
                await in_another_task(rival.mediator.send(Guarded((key,))))

    await app.mediator.send(Guarded(("a",), nest))

    assert results == ["done"]
    assert await rival.mediator.send(Guarded(("a", *inner))) == "done"


async def in_another_task(work: Coroutine[Any, Any, Any]) -> Any:
    """Outside of the unit of work that is open here."""
    return await asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def test_a_nested_command_that_does_not_get_its_lock_takes_the_whole_unit_of_work_with_it(
    app: MediatorApp, rival: MediatorApp
) -> None:
    async def nest(uow: UnitOfWork, mediator: Mediator) -> None:
        uow.session.add(Effect(what="outer"))
        with suppress(LockTimeoutError):
            await mediator.send(Guarded(("b",)))

    async with Holder(rival, "b"):
        with pytest.raises((NestedCommandFailedError, LockTimeoutError)):
            await app.mediator.send(Guarded(("a",), nest))

    assert await effects(app) == []


async def test_a_command_that_is_cancelled_while_it_waits_leaves_nothing_behind(
    app: MediatorApp, rival: MediatorApp
) -> None:
    async with Holder(rival, "b"):
        waiting = asyncio.create_task(app.mediator.send(Patient(("a", "b"))))
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        # It had that one already.
        assert await app.mediator.send(Guarded(("a",))) == "done"
    assert await app.mediator.send(Guarded(("a", "b"))) == "done"


async def test_many_who_wait_for_a_new_key_do_not_keep_the_toolkit_from_working(make_app: AppFactory) -> None:
    settings = quick_settings(database={"connections": 12})
    handler = listener("Write", writes)
    async with make_app(MODULE, module_of("bank", handler), schema="create", settings=settings) as app:
        for number in range(3):
            key, entered = f"new {number}", asyncio.Event()
            crowd = [asyncio.create_task(app.mediator.send(Guarded((key,), slowly(entered)))) for _ in range(10)]
            await entered.wait()
            handled = app.counters.total("handled")
            started = time.monotonic()
            await app.publish_in_own_transaction(NotedV1())
            await eventually(partial(has_handled_more, app, handled))
            assert time.monotonic() - started < 4
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)


def has_handled_more(app: MediatorApp, before: int) -> bool:
    return app.counters.total("handled") > before


def slowly(entered: asyncio.Event) -> Callable[[UnitOfWork, Mediator], Any]:
    async def work(_uow: UnitOfWork, _mediator: Mediator) -> None:
        entered.set()
        await asyncio.sleep(5)

    return work


HOSTILE = {
    "empty": "",
    "blank": " ",
    "NUL": "a\0b",
    "long": "k" * 10_000,
    "quotes": "'; DROP TABLE mediator_outbox; --\"`\\",
    "emoji": "🔒",
    "percent": "%s :name {0}",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_key_may_be_any_text(name: str, app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, HOSTILE[name]):
        with pytest.raises(LockTimeoutError) as caught:
            await app.mediator.send(Guarded((HOSTILE[name],)))

    assert caught.value.key == HOSTILE[name]
    assert len(str(caught.value)) < 1_000
    assert await app.mediator.send(Guarded((HOSTILE[name],))) == "done"


async def test_keys_that_look_alike_are_not_the_same(app: MediatorApp, rival: MediatorApp) -> None:
    async with Holder(rival, "Ä", "a", "a\0b", "k" * 10_000):
        others = ("A\u0308", "ä", "A", "a ", " a", "", "a\0", "b", "k" * 9_999)
        assert await app.mediator.send(Guarded(others)) == "done"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("order-7", ("'order-7'", "list")),
        ((7,), ("7", "text")),
        (("a", 7), ("7", "text")),
        ((None,), ("None", "text")),
        ((b"a",), ("b'a'", "text")),
        (None, ("None",)),
        (7, ("7",)),
        (("\ud800",), ("ud800",)),
    ],
)
async def test_what_is_no_key_is_refused(keys: Any, says: tuple[str, ...], app: MediatorApp) -> None:
    with pytest.raises(UsageError) as caught:
        await app.mediator.send(Guarded(keys))

    for part in says:
        assert part in str(caught.value)
    assert "lock" in str(caught.value)
    assert await app.mediator.send(Guarded(("a",))) == "done"


@pytest.mark.every_database
async def test_no_keys_are_no_locks(app: MediatorApp) -> None:
    assert await app.mediator.send(Guarded(())) == "done"
    await locks(app)


@pytest.mark.every_database
async def test_a_query_locks_nothing(app: MediatorApp) -> None:
    with pytest.raises(UnitOfWorkRequiredError, match="locking in a query"):
        await app.mediator.send(Peek())


@pytest.mark.every_database
async def test_a_unit_of_work_that_has_ended_locks_nothing(app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        pass

    with pytest.raises(UnitOfWorkClosedError, match="locking"):
        await uow.lock("a")


async def test_applications_with_other_tables_have_other_keys(app: MediatorApp, make_app: AppFactory) -> None:
    settings = quick_settings(table_prefix="other_")
    async with make_app(MODULE, schema="create", settings=settings, roles={"publish"}) as other, Holder(app, "a"):
        assert await other.mediator.send(Guarded(("a",))) == "done"
