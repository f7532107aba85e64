"""Relays in processes of their own, to be stopped, paused and killed; and the record of what they sent.

All processes write to one file, which stands for the broker: a line is appended by a single call, so the lines have one
order, whoever wrote them. An event says the how manieth of its key it is, so the record tells by itself what was lost
and what came too early:

    with RelayProcess(Plan(url, folder)) as relay:
        ...
        relay.kill()
    assert verdict(sent(folder), {"a key": 3}) == []
"""

import asyncio
import inspect
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import pairwise
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import MediatorApp, MediatorSettings, RetryPolicy
from mediator.errors import PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, slot_of
from mediator.storage.slots import SEATS, ServerLocks, _named
from tests.support import module_of
from tests.support.transports import ScriptedTransport

__all__ = [
    "EVERY_SLOT",
    "CountedV1",
    "Office",
    "Plan",
    "RecordingTransport",
    "RelayProcess",
    "Sent",
    "again_and_again",
    "are_sharing",
    "count",
    "cut_off",
    "in_a_process",
    "lock_holders",
    "relay_app",
    "sent",
    "until",
    "verdict",
]

_JOIN_SECONDS = 30.0
_OF_SLOT = {slot_of(f"key-{number}", UUID(int=0)): f"key-{number}" for number in range(500)}
EVERY_SLOT = sorted(_OF_SLOT.values())
"""A key of each slot."""
_NEVER = 1_000


@event_topic("counts", domain="bank")
class CountedV1(IntegrationEvent):
    """The `number`-th event of its key."""

    key: Annotated[str, PartitionKey()]
    number: int


@dataclass(frozen=True)
class Plan:
    """What a process is to do."""

    url: str
    folder: Path
    pause_seconds: float = 0.0
    """How long the broker takes at most to take an envelope."""
    refusals: float = 0.0
    """How often it does not."""
    killer: str | None = None
    """A key whose envelopes end the process that hands them over."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    work: Callable[["Plan"], Awaitable[None]] | None = None
    """What to run instead of the toolkit's relay."""


class RecordingTransport(ScriptedTransport):
    """Appends what it is given to the record; a key stops at its first failure, as the protocol asks for."""

    name = "recording"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan, self._random = plan, Random()
        self._file = os.open(_record(plan.folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._under_way: set[object] = set()

    async def close(self) -> None:
        """What is under way gets its outcomes first."""
        await until(lambda: not self._under_way)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        publication = object()
        self._under_way.add(publication)
        failed_keys: set[str | None] = set()
        try:
            for envelope in batch:
                if self._plan.pause_seconds:
                    await asyncio.sleep(self._random.uniform(0, self._plan.pause_seconds))
                if envelope.key in failed_keys or self._random.random() < self._plan.refusals:
                    failed_keys.add(envelope.key)
                    yield envelope, PublishRefusedError(self.name, envelope.topic, "not now")
                    continue
                self.write(envelope)
                yield envelope, None
        finally:
            self._under_way.discard(publication)

    def write(self, envelope: Envelope) -> None:
        """The broker has it."""
        event = json.loads(envelope.body)
        if event["key"] == self._plan.killer:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._file, f"{time.monotonic()} {os.getpid()} {event['key']} {event['number']}\n".encode())


@dataclass(frozen=True)
class Sent:
    """A line of the record."""

    at: float
    """By the clock of the machine, which all processes share."""
    pid: int
    key: str
    number: int


def sent(folder: Path) -> list[Sent]:
    """What was sent until now, in the order of sending."""
    file = _record(folder)
    # The last line may be on its way.
    lines = (
        [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []
    )
    return [Sent(float(at), int(pid), key, int(number)) for at, pid, key, number in map(str.split, lines)]


def verdict(record: Iterable[Sent], committed: Mapping[str, int]) -> list[str]:
    """What is wrong: of every key 1, 2, 3, ... have to arrive in this order, repetitions aside."""
    arrived: dict[str, dict[int, None]] = {key: {} for key in committed}
    for one in record:
        arrived.setdefault(one.key, {}).setdefault(one.number)
    wrong: list[str] = []
    for key, numbers in arrived.items():
        wanted = range(1, committed.get(key, 0) + 1)
        wrong.extend(f"{key}: {number} was lost" for number in wanted if number not in numbers)
        wrong.extend(f"{key}: {number} was never committed" for number in numbers if number not in wanted)
        came = list(numbers)
        wrong.extend(f"{key}: {later} came before {earlier}" for later, earlier in pairwise(came) if later > earlier)
    return wrong


def relay_app(plan: Plan, **options: Any) -> MediatorApp:
    """An application that relays and does nothing else, unless it is told so."""
    defaults: dict[str, Any] = {
        "modules": [module_of("bank")],
        "database": plan.url,
        "environment": "test",
        "transport": RecordingTransport(plan),
        "roles": {"relay"},
        "schema": "ignore",
        "settings": MediatorSettings.model_validate(
            {
                "relay": {
                    "poll": timedelta(milliseconds=50),
                    "retry": RetryPolicy.fixed(_NEVER, timedelta(milliseconds=20)),
                },
                "drain_on_stop": timedelta(seconds=5),
                **plan.settings,
            }
        ),
    }
    return MediatorApp("shop", **{**defaults, **options})


class Office:
    """Where events are published: an application of its own, that relays nothing."""

    def __init__(self, app: MediatorApp, plan: Plan) -> None:
        self.app, self.plan = app, plan
        self.committed: Counter[str] = Counter()
        self.database: Database = app._started("the test").services[0].database

    async def publish(self, *keys: str) -> None:
        """The next event of each key, in one transaction."""
        events = []
        for key in keys:
            self.committed[key] += 1
            events.append(CountedV1(key=key, number=self.committed[key]))
        await self.app.publish_in_own_transaction(*events)

    async def all_is_sent(self) -> bool:
        return await count(self.database, "outbox") == 0

    def verdict(self) -> list[str]:
        return verdict(sent(self.plan.folder), self.committed)

    def senders(self) -> set[int]:
        """The processes that have sent anything."""
        return {one.pid for one in sent(self.plan.folder)}


async def count(database: Database, table: str) -> int:
    async with database.read() as connection:
        rows = select(func.count()).select_from(getattr(database.tables, table))
        return int(await connection.scalar(rows) or 0)


class RelayProcess:
    """A process that relays from the beginning of the block to its end, unless it is killed before."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._process: ForkServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has started; what it relays, its locks say later."""
        return self._ready.exists()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Begin, also again after its end."""
        self._ready = self.plan.folder / f"ready-{uuid4().hex}"
        self._process = in_a_process(_carry_out, self.plan, self._ready)

    def kill(self) -> None:
        """The process ends now, whatever it does; also when it is paused."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self._join()

    async def stop(self) -> None:
        """Ask it to end once it has started, and wait until it has; fails when it does not end well."""
        await until(lambda: self.is_ready)
        self.send(signal.SIGTERM)
        code = await asyncio.to_thread(self._join)
        assert code == 0, (code, (self.plan.folder / "relays.log").read_text()[-4_000:])

    def send(self, what: signal.Signals) -> None:
        """SIGSTOP pauses it, SIGCONT wakes it."""
        os.kill(self.pid, what)

    def _join(self) -> int | None:
        process, self._process = self._process, None
        assert process is not None
        process.join(_JOIN_SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        return code


async def are_sharing(office: Office, *relays: RelayProcess) -> bool:
    before = len(sent(office.plan.folder))
    await office.publish(*EVERY_SLOT)
    await until(office.all_is_sent)
    return {one.pid for one in sent(office.plan.folder)[before:]} == {relay.pid for relay in relays}


async def lock_holders(database: Database) -> set[int]:
    """The connections that hold slots or seats, by the server's numbers."""
    place = ServerLocks(database)._place
    if database.dialect == "postgresql":
        query = (
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    else:
        query = " UNION ".join(f"SELECT IS_USED_LOCK('{_named(place, number)}')" for number in range(SLOTS + SEATS))
    async with database.dedicated() as connection:
        return {int(holder) for holder in (await connection.execute(text(query))).scalars() if holder is not None}


async def cut_off(database: Database, sessions: Iterable[int]) -> None:
    """End connections, as an administrator does."""
    end = "SELECT pg_terminate_backend({})" if database.dialect == "postgresql" else "KILL {}"
    async with database.dedicated() as connection:
        for session in sessions:
            with suppress(DBAPIError):  # it may have ended by itself
                await connection.execute(text(end.format(session)))


async def until(
    condition: Callable[[], bool | Awaitable[bool]], patience_seconds: float = 60.0, *, every_seconds: float = 0.01
) -> None:
    """Return when it is so; raises TimeoutError when it does not become so."""
    async with asyncio.timeout(patience_seconds):
        while True:
            met = condition()
            if await met if inspect.isawaitable(met) else met:
                return
            await asyncio.sleep(every_seconds)


async def again_and_again(relay: RelayProcess) -> None:
    """Start a relay again as often as it dies, as a supervisor does, until this is cancelled."""
    while True:
        if not relay.is_running:
            relay.start()
        await asyncio.sleep(0.02)


def in_a_process(work: Callable[..., Awaitable[None]], *arguments: Any) -> ForkServerProcess:
    """Run a coroutine in a process that begins clean: it is forked from one that never opened a connection."""
    process = _context().Process(target=_main, args=(partial(work, *arguments), os.getpid()), daemon=True)
    process.start()
    return process


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.publishing.relays", "tests.publishing.naive_relays"])
    return context


def _main(work: Callable[[], Awaitable[None]], starter: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

    async def until_orphaned() -> None:
        task = asyncio.ensure_future(work())
        while not task.done():
            await asyncio.wait([task], timeout=1)
            # Raises when the test run was killed: nobody would end this process.
            os.kill(starter, 0)
        await task

    try:
        asyncio.run(until_orphaned())
    except BaseException:  # noqa: BLE001 - whatever it is, this is the end of the process
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


async def _carry_out(plan: Plan, ready: Path) -> None:
    log = os.open(plan.folder / "relays.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with relay_app(plan) if plan.work is None else nullcontext():
        ready.touch()  # noqa: ASYNC240 - at once
        if plan.work is not None:
            await plan.work(plan)
        await stopping.wait()


def _record(folder: Path) -> Path:
    return folder / "sent.txt"
