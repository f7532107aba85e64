"""A nested command that failed half-way is never committed because somebody caught its error."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Command, CommandHandler, Mediator, Query, QueryHandler
from mediator.errors import NestedCommandFailedError
from tests.publishing.bank import Do
from tests.support import AppFactory, Effect, effects, module_of


class HalfwayError(Exception):
    pass


@dataclass(frozen=True)
class Half(Command[None]):
    """Leaves an effect and fails."""

    what: str


class HalfHandler(CommandHandler[Half, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Half) -> None:
        self.session.add(Effect(what=command.what))
        await self.session.flush()
        raise HalfwayError(command.what)


@dataclass(frozen=True)
class Look(Query[None]):
    pass


class LookHandler(QueryHandler[Look, None]):
    async def handle(self, query: Look) -> None:
        raise HalfwayError("nothing to see")


class Outer(CommandHandler[Do, Any]):
    """Sends a command that fails, or a query, and goes on."""

    def __init__(self, session: AsyncSession, mediator: Mediator) -> None:
        self.session, self.mediator = session, mediator

    async def handle(self, command: Do) -> None:
        self.session.add(Effect(what="outer"))
        with suppress(HalfwayError):
            await self.mediator.send(Look() if command.what == "query" else Half("half"))


async def test_its_caught_error_rolls_everything_back(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", Outer, HalfHandler, LookHandler)) as app:
        with pytest.raises(NestedCommandFailedError, match="Half") as caught:
            await app.mediator.send(Do())

        assert isinstance(caught.value.__cause__, HalfwayError)
        assert caught.value.command == "Half"
        assert await effects(app) == []


async def test_a_nested_query_that_fails_left_nothing_half_done(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", Outer, HalfHandler, LookHandler)) as app:
        await app.mediator.send(Do("query"))

        assert await effects(app) == [("outer", "")]


async def test_a_savepoint_takes_it_back(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", HalfHandler)) as app:
        async with app.unit_of_work() as uow:
            uow.session.add(Effect(what="outer"))
            with suppress(HalfwayError):
                async with uow.savepoint():
                    await app.mediator.send(Half("half"))

        assert await effects(app) == [("outer", "")]


async def test_a_savepoint_that_is_kept_takes_nothing_back(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", HalfHandler)) as app:
        with pytest.raises(NestedCommandFailedError):  # noqa: PT012 - the block is the transaction
            async with app.unit_of_work() as uow, uow.savepoint():
                with suppress(HalfwayError):
                    await app.mediator.send(Half("half"))

        assert await effects(app) == []


async def test_a_savepoint_takes_back_only_its_own_failures(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", HalfHandler)) as app:
        with pytest.raises(NestedCommandFailedError):  # noqa: PT012 - the block is the transaction
            async with app.unit_of_work() as uow:
                with suppress(HalfwayError):
                    await app.mediator.send(Half("first"))
                with suppress(HalfwayError):
                    async with uow.savepoint():
                        await app.mediator.send(Half("second"))

        assert await effects(app) == []
