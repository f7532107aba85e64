"""Middleware stands around every event, when it is published and when it is handled; context travels with it."""

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import ContextPropagation, HandlingMiddleware, MessageContext, Outgoing, PublishingMiddleware
from mediator.errors import EventRefusedError, SettingsError
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener, rows, writes
from tests.support import AppFactory, Effect, effects, module_of

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    token = tenant.set(None)
    yield
    tenant.reset(token)


class Marks(PublishingMiddleware):
    """Adds its name to a header, so that the order shows."""

    def publish(self, outgoing: Outgoing[Any], proceed: Any) -> None:
        seen = outgoing.headers.get("seen", "") + type(self).__name__
        proceed(replace(outgoing, headers={**outgoing.headers, "seen": seen}))


class MarksToo(Marks):
    pass


class Renames(PublishingMiddleware):
    """Replaces the event by another."""

    def publish(self, message: Outgoing[Any], go_on: Any) -> None:
        go_on(replace(message, event=message.event.model_copy(update={"text": "renamed"})))


class Stops(PublishingMiddleware):
    def publish(self, outgoing: Outgoing[Any], proceed: Any) -> None:
        if outgoing.event.text != "secret":
            proceed(outgoing)


class Replaces(PublishingMiddleware):
    def publish(self, outgoing: Outgoing[Any], proceed: Any) -> None:
        proceed("nothing")


class Writes(HandlingMiddleware):
    """Takes part in the handler's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: Any, context: MessageContext, proceed: Any) -> None:
        self._session.add(Effect(what="before", detail=context.subscriber_id or ""))
        await proceed(event)
        self._session.add(Effect(what="after", detail=str(context.attempt)))


class Skips(HandlingMiddleware):
    async def handle(self, event: Any, context: MessageContext, proceed: Any) -> None:
        if event.text != "skip":
            await proceed(event)


class Changes(HandlingMiddleware):
    async def handle(self, message: Any, about: MessageContext, go_on: Any) -> None:
        await go_on(message.model_copy(update={"text": message.text + "!"}))


class Confuses(HandlingMiddleware):
    async def handle(self, event: Any, context: MessageContext, proceed: Any) -> None:
        await proceed(RemarkedV1(text="x"))


def tells_headers(handler: Any, event: NotedV1) -> None:
    handler.session.add(Effect(what="headers", detail=repr(sorted(handler.context.headers.items()))))


def tells_tenant(handler: Any, event: Any) -> None:
    handler.session.add(Effect(what=type(handler).__name__, detail=str(tenant.get())))


async def test_the_first_of_the_publishing_middlewares_is_the_outermost(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", tells_headers)), middleware=[Marks, MarksToo()]) as app:
        async with app.unit_of_work() as uow:
            uow.publish(Outgoing(NotedV1(), headers={"seen": "-"}))
        await app.drained()

        assert await effects(app) == [("headers", "[('seen', '-MarksMarksToo')]")]


async def test_a_publishing_middleware_may_replace_or_stop_the_event(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes)), middleware=[Stops, Renames]) as app:
        async with app.unit_of_work() as uow:
            uow.publish(NotedV1(text="secret"), NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("Send", "renamed")]


async def test_what_a_publishing_middleware_makes_of_it_is_checked_where_it_is_published(make_app: AppFactory) -> None:
    async with make_app(module_of("mail"), middleware=[Replaces]) as app, app.unit_of_work() as uow:
        with pytest.raises(EventRefusedError, match="no IntegrationEvent"):
            uow.publish(NotedV1())


async def test_a_handling_middleware_takes_part_in_the_transaction_of_each_attempt(make_app: AppFactory) -> None:
    attempts = list[int]()

    def react(handler: Any, event: NotedV1) -> None:
        attempts.append(handler.context.attempt)
        if len(attempts) < 3:
            raise LookupError("not yet")
        writes(handler, event)

    async with make_app(module_of("mail", listener("Send", react, retry=at_once(5))), middleware=[Writes]) as app:
        await app.publish_in_own_transaction(NotedV1(text="x"))
        await app.drained()

        assert attempts == [1, 2, 3]
        assert await effects(app) == [("before", "mail.send"), ("Send", "x"), ("after", "3")]


async def test_a_handling_middleware_that_does_not_proceed_has_handled_the_event(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes)), middleware=[Skips, Changes]) as app:
        await app.publish_in_own_transaction(NotedV1(text="skip"), NotedV1(text="x"))
        await app.drained()

        assert await effects(app) == [("Send", "x!")]
        assert app.counters.total("handled", "mail.send") == 2
        assert len(await rows(app, "inbox")) == 2


async def test_an_event_that_the_handler_does_not_take_is_a_failure(make_app: AppFactory) -> None:
    send = listener("Send", writes, retry=at_once(1))
    async with make_app(module_of("mail", send), middleware=[Confuses]) as app:
        await app.publish_in_own_transaction(NotedV1())
        await app.drained()

        (letter,) = await app.dead_letters.list()
        assert "mail.send handles NotedV1; a middleware gave it RemarkedV1(" in (letter.error or "")


@pytest.mark.parametrize("blocking", [False, True])
async def test_context_travels_with_the_event_and_with_what_its_handlers_publish(
    make_app: AppFactory, blocking: bool
) -> None:
    def answers(_handler: Any, event: NotedV1) -> RemarkedV1:
        return RemarkedV1(text=str(tenant.get()))

    def plain(self: Any, event: NotedV1) -> Any:
        return answers(self, event)

    answer = listener("Answer", answers)
    if blocking:
        answer = type("Answer", (answer,), {"blocking": True, "handle": plain, "__init__": object.__init__})
    modules = module_of("mail", answer), module_of("audit", listener("Note", tells_tenant, RemarkedV1))

    async with make_app(*modules, middleware=[ContextPropagation(tenant_id=tenant)]) as app:
        for name in ("ada", None, "bob"):
            tenant.set(name)
            await app.publish_in_own_transaction(NotedV1())
            tenant.set(None)
            await app.drained()

        assert await effects(app) == [("Note", "ada"), ("Note", "None"), ("Note", "bob")]


async def test_a_header_that_was_set_by_hand_stays(make_app: AppFactory) -> None:
    middleware = [ContextPropagation(tenant_id=tenant)]
    async with make_app(module_of("mail", listener("Send", tells_headers)), middleware=middleware) as app:
        tenant.set("ada")
        async with app.unit_of_work() as uow:
            uow.publish(Outgoing(NotedV1(), headers={"tenant-id": "bob"}))
        await app.drained()

        assert await effects(app) == [("headers", "[('tenant-id', 'bob')]")]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("wrong", [NotedV1, "Marks", object(), None])
def test_what_is_no_middleware_is_refused(make_app: AppFactory, wrong: Any) -> None:
    with pytest.raises(SettingsError, match="middleware"):
        make_app(module_of("mail"), middleware=[wrong])
