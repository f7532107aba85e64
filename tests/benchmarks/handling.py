"""What handling an event costs, in a transaction of its own and in one that it shares with others that wait."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import new_class
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import BatchIntegrationEventHandler, IntegrationEventHandler, MediatorApp
from tests.benchmarks.measuring import Goal, Scale, Table, Way, measure
from tests.benchmarks.places import Place, on_each
from tests.promises.arrivals import envelope_of
from tests.support import Effect, module_of

__all__ = ["run"]

ALONE = "a transaction for each event"
TOGETHER = "max_batch: {}".format
LIST = "a batch handler, max_batch: 100"
_AT_ONCE = 1_000


@event_topic("arrivals", domain="bench")
class ArrivedV1(IntegrationEvent):
    """Something arrived."""

    text: str = "x"


class List(BatchIntegrationEventHandler[ArrivedV1]):
    """Gets what waits as a list."""

    concurrency = 4

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, events: Sequence[ArrivedV1]) -> None:
        self._session.add_all(Effect(what="List", detail=event.text) for event in events)


async def run(scale: Scale) -> Sequence[Table]:
    """Envelopes arrive in process, a thousand at a time; each handler inserts one row for each by the ORM."""
    return await on_each(["sqlite", "postgresql", "mariadb"], _handling, scale)


async def _handling(place: Place, scale: Scale) -> Sequence[Table]:
    handlers: dict[str, type] = {
        ALONE: _handler("Alone", 1),
        TOGETHER(10): _handler("Ten", 10),
        TOGETHER(100): _handler("Hundred", 100),
        LIST: List,
    }
    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {}
        for name, handler in handlers.items():
            app = MediatorApp(
                "bench",
                modules=[module_of("bench", handler)],
                database=place.url,
                environment="test",
                schema="create",
            )
            ways[name] = _arrivals(await stack.enter_async_context(app))
        goals = [Goal("max_batch 100, to a transaction each: CPU", TOGETHER(100), ALONE, "cpu", 0.25)]
        return [await measure(f"Handling an event, on {place.title}", ways, 1_000, scale, goals=goals)]


def _handler(name: str, max_batch: int) -> type[IntegrationEventHandler[ArrivedV1]]:
    def construct(self: Any, session: AsyncSession) -> None:
        self.session = session

    async def handle(self: Any, event: ArrivedV1) -> None:
        self.session.add(Effect(what=name, detail=event.text))

    namespace = {"__init__": construct, "handle": handle, "max_batch": max_batch, "concurrency": 4}
    return new_class(name, (IntegrationEventHandler[ArrivedV1],), exec_body=lambda body: body.update(namespace))


def _arrivals(app: MediatorApp) -> Way:
    async def arrive(times: int) -> None:
        for first in range(0, times, _AT_ONCE):
            envelopes = [envelope_of(ArrivedV1()) for _ in range(min(_AT_ONCE, times - first))]
            async for _, error in app.transport.publish(envelopes):
                if error is not None:
                    raise error

    return arrive
