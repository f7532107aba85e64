"""What `mediator.send` adds to calling the handler oneself, and what outbox rows add to an ORM transaction."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import Command, CommandHandler, MediatorApp, MessageContext, Runtime
from mediator.hosting.wiring import build_registry
from mediator.messaging.limits import Limits
from mediator.publishing.dispatcher import DomainEventDispatcher
from mediator.publishing.mediator import new_lineage
from mediator.publishing.outbox import OutboxWriter
from mediator.publishing.unit_of_work import SqlUnitOfWork, UnitOfWorkServices
from mediator.storage.database import Database
from mediator.storage.schema import create_schema
from tests.benchmarks.measuring import Scale, Table, Way, measure
from tests.support import Account, create_tables, module_of

__all__ = ["run"]


@event_topic("openings", domain="bank")
class OpenedV1(IntegrationEvent):
    """An account was opened."""

    owner: str


@dataclass(frozen=True)
class Nothing(Command[int]):
    """Asks for nothing."""


class NothingHandler(CommandHandler[Nothing, int]):
    """Does nothing, so that only the way to it is measured."""

    async def handle(self, command: Nothing) -> int:
        return 0


async def run(scale: Scale) -> Sequence[Table]:
    """On a SQLite file, as an application has it: WAL, synchronous=FULL."""
    with TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'benchmark.db'}"
        await create_tables(url)
        app = MediatorApp(
            "bench", modules=[module_of("bank", Nothing, NothingHandler)], database=url, environment="bench"
        )
        async with app:
            sending = await _sending(app, scale)
        return [sending, await _committing(url, scale)]


async def _sending(app: MediatorApp, scale: Scale) -> Table:
    handler = NothingHandler()

    async def nested(times: int) -> None:
        async with app.unit_of_work():
            for _ in range(times):
                await app.mediator.send(Nothing())

    ways = {
        "calling the handler": _again(lambda: handler.handle(Nothing())),
        "send inside a unit of work": nested,
        "send with a unit of work of its own": _again(lambda: app.mediator.send(Nothing())),
    }
    return await measure("A command whose handler does nothing (no statement, no commit)", ways, 500, scale)


async def _committing(url: str, scale: Scale) -> Table:
    # Without a relay: what it does with the rows afterwards is not what a transaction costs.
    database = Database(url)
    await create_schema(database)
    registry, _ = build_registry("bench", "bench", [module_of("bank")], ())
    services = UnitOfWorkServices(
        database,
        DomainEventDispatcher(registry, lambda wanted: wanted),
        OutboxWriter("bench", "bench", Limits(), database.tables),
        Runtime(),
        wake_relay=lambda _slots: None,
    )

    async def plain() -> None:
        async with AsyncSession(database.writer, expire_on_commit=False) as session:
            session.add(Account(owner="Ada"))
            await session.commit()

    def publishing(events: int) -> Callable[[], Awaitable[None]]:
        async def in_unit_of_work() -> None:
            lineage = new_lineage(services.runtime, "benchmark")
            context = MessageContext(lineage.message_id, "benchmark", lineage.correlation_id, module="bank")
            async with SqlUnitOfWork(services, context, lineage) as uow:
                uow.session.add(Account(owner="Ada"))
                uow.publish(*(OpenedV1(owner="Ada") for _ in range(events)))

        return in_unit_of_work

    ways: dict[str, Way] = {"a plain session": _again(plain)}
    ways |= {f"a unit of work, outbox rows: {number}": _again(publishing(number)) for number in (0, 1, 10)}
    try:
        return await measure("A transaction that inserts one aggregate, on SQLite", ways, 100, scale)
    finally:
        await database.close()


def _again(call: Callable[[], Awaitable[Any]]) -> Way:
    async def way(times: int) -> None:
        for _ in range(times):
            await call()

    return way
