"""Streaming queries give their answers one by one, read only, and leave nothing behind when they are abandoned."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.contextvars import bound_contextvars, get_contextvars

from mediator import IntegrationEventPublisher, MediatorApp, StreamQuery, StreamQueryHandler
from mediator.errors import HandlerNotFoundError, NotRunningError, UnitOfWorkRequiredError
from mediator.messaging.lineage import current_lineage
from mediator.publishing.unit_of_work import current_unit_of_work
from tests.consuming.notes import NotedV1, listener, writes
from tests.publishing.bank import READ_ONLY, FactV1
from tests.storage.rows import eventually
from tests.support import Account, AppFactory, Effect, effects, module_of


@dataclass(frozen=True)
class Owners(StreamQuery[str]):
    fail_at: str = ""
    write: bool = False
    publish: bool = False


class OwnersHandler(StreamQueryHandler[Owners, str]):
    closed: list[str] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, session: AsyncSession, publisher: IntegrationEventPublisher) -> None:
        self.session, self.publisher = session, publisher

    async def handle(self, query: Owners) -> AsyncGenerator[str, None]:
        try:
            for owner in (await self.session.exec(select(Account.owner).order_by(Account.owner))).all():
                if owner == query.fail_at:
                    raise ValueError(owner)
                if query.write:
                    self.session.add(Effect(what="never"))
                    await self.session.flush()
                if query.publish:
                    self.publisher.publish(FactV1(what="never"))
                yield owner
        finally:
            self.closed.append("closed")


@pytest.fixture(autouse=True)
def nothing_closed() -> None:
    OwnersHandler.closed.clear()


async def with_accounts(app: MediatorApp) -> None:
    async with app.unit_of_work() as uow:
        uow.session.add_all([Account(owner=owner) for owner in ("Ada", "Bob", "Cid")])


def connections_in_use(app: MediatorApp) -> int:
    pool: Any = app._started("the test").services[0].database.reader.pool
    return int(pool.checkedout())


async def test_answers_come_one_by_one(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)

        assert [owner async for owner in app.mediator.stream(Owners())] == ["Ada", "Bob", "Cid"]
        await eventually(lambda: connections_in_use(app) == 0)


async def test_a_stream_that_is_closed_half_way_gives_its_connection_back(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        async with aclosing(app.mediator.stream(Owners())) as owners:
            assert await anext(owners) == "Ada"
            assert OwnersHandler.closed == []

        assert OwnersHandler.closed == ["closed"]
        await eventually(lambda: connections_in_use(app) == 0)


async def test_abandoned_streams_do_not_use_the_connections_up(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        for _ in range(12):
            async for _owner in app.mediator.stream(Owners()):
                break
        await eventually(lambda: connections_in_use(app) == 0)

        assert [owner async for owner in app.mediator.stream(Owners())] == ["Ada", "Bob", "Cid"]
        assert len(OwnersHandler.closed) == 13


async def test_open_streams_do_not_stop_the_relay(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler), module_of("mail", listener("Send", writes))) as app:
        await with_accounts(app)
        # As many as there are connections for reading.
        streams = [app.mediator.stream(Owners()) for _ in range(5)]
        for stream in streams:
            assert await anext(stream) == "Ada"
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await eventually(lambda: app.counters.total("handled", "mail.send") == 1)
        await app.drained()

        assert await effects(app) == [("Send", "x")]
        for stream in streams:
            await stream.aclose()


async def test_an_error_reaches_the_caller_and_ends_the_stream(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        owners = app.mediator.stream(Owners(fail_at="Bob"))
        assert await anext(owners) == "Ada"
        with pytest.raises(ValueError, match="Bob"):
            await anext(owners)

        await eventually(lambda: connections_in_use(app) == 0)


async def test_nothing_of_a_stream_leaks_into_its_caller(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        with bound_contextvars(correlation_id="mine"):
            before = get_contextvars()
            async for _owner in app.mediator.stream(Owners(), correlation_id="of the stream"):
                assert get_contextvars() == before
                assert current_lineage() is None
                assert current_unit_of_work() is None
            assert get_contextvars() == before


async def test_the_caller_may_write_between_two_answers(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        async for owner in app.mediator.stream(Owners()):
            async with app.unit_of_work() as uow:
                uow.session.add(Effect(what=owner))

        assert await effects(app) == [("Ada", ""), ("Bob", ""), ("Cid", "")]


async def test_a_stream_cannot_write(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        with pytest.raises(DBAPIError, match=READ_ONLY):
            [owner async for owner in app.mediator.stream(Owners(write=True))]

        assert await effects(app) == []


async def test_a_stream_cannot_publish(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", OwnersHandler)) as app:
        await with_accounts(app)
        with pytest.raises(UnitOfWorkRequiredError):
            [owner async for owner in app.mediator.stream(Owners(publish=True))]


async def test_a_stream_that_nobody_handles_is_named(make_app: AppFactory) -> None:
    async with make_app(module_of("bank")) as app:
        with pytest.raises(HandlerNotFoundError, match=r"no StreamQueryHandler for .*Owners"):
            await anext(app.mediator.stream(Owners()))
        mediator = app.mediator
    with pytest.raises(NotRunningError):
        await anext(mediator.stream(Owners()))
