"""Notes: two contracts, handlers made of a function, and a look into the tables."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import new_class
from typing import Annotated, Any

from sqlalchemy import select
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import IntegrationEventHandler, MediatorApp, MessageContext, RetryPolicy
from mediator.storage.tables import Tables
from tests.support import Effect

__all__ = ["NotedV1", "RemarkedV1", "at_once", "eventually", "listener", "rows", "writes"]


@event_topic("notes", domain="bank")
class NotedV1(IntegrationEvent):
    """Somebody noted something about an account."""

    account: Annotated[str, PartitionKey()] = "a"
    text: str = ""


@event_topic("remarks", domain="bank")
class RemarkedV1(IntegrationEvent):
    """Somebody made a remark."""

    text: str = ""


def at_once(attempts: int = 5, **options: Any) -> RetryPolicy:
    """Retries that do not wait."""
    return RetryPolicy.fixed(attempts, timedelta(0), **options)


def listener(
    name: str, react: Callable[[Any, Any], Any], events: Any = NotedV1, **attributes: Any
) -> type[IntegrationEventHandler[Any]]:
    """A handler class whose `handle` calls `react(handler, event)`; it has a session and a context."""

    def construct(self: Any, session: AsyncSession, context: MessageContext) -> None:
        self.session, self.context = session, context

    async def handle(self: Any, event: events) -> Any:
        result = react(self, event)
        return await result if inspect.isawaitable(result) else result

    namespace = {"__init__": construct, "handle": handle, **attributes}
    return new_class(name, (IntegrationEventHandler[events],), exec_body=lambda body: body.update(namespace))


def writes(handler: Any, event: Any) -> None:
    """Leave an effect behind, named after the handler."""
    handler.session.add(Effect(what=type(handler).__name__, detail=event.text))


async def rows(app: MediatorApp, table: str) -> Sequence[Any]:
    """The rows of one of the toolkit's tables."""
    async with app.unit_of_work() as uow:
        found = getattr(Tables(), table)
        order = found.c.position if "position" in found.c else next(iter(found.primary_key))
        return (await (await uow.session.connection()).execute(select(found).order_by(order))).all()


async def eventually(condition: Callable[[], Any]) -> None:
    """Return when the condition holds; the test's own timeout ends the waiting."""
    while True:
        outcome = condition()
        if await outcome if inspect.isawaitable(outcome) else outcome:
            return
        await asyncio.sleep(0.005)
