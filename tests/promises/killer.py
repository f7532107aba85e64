"""A program with two handlers: one kills the process at one event, the other takes its time over every event.

python -m tests.promises.killer URL [first]     ends with 0 when nothing is pending any more, with 9 when it was killed
"""

import asyncio
import os
import sys
from datetime import timedelta

from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MediatorApp, RetryPolicy
from tests.support import Effect, create_tables, module_of, quick_settings
from tests.support.databases import execute

EVENTS = 3
RETRIES = 3
_KILLED = 9


@event_topic("facts", domain="bank")
class FactV1(IntegrationEvent):
    """Something happened."""

    number: int


class Kill(IntegrationEventHandler[FactV1]):
    """Kills at the second event."""

    retry = RetryPolicy.exponential(RETRIES, first_delay=timedelta(milliseconds=20))

    async def handle(self, event: FactV1) -> None:
        if event.number == 1:
            await asyncio.sleep(0.05)
            os._exit(_KILLED)


class Slow(IntegrationEventHandler[FactV1]):
    """Is still at work when the other one kills."""

    retry = RetryPolicy.exponential(RETRIES, first_delay=timedelta(milliseconds=20))

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: FactV1) -> None:
        await asyncio.sleep(0.03)
        self._session.add(Effect(what="slow", detail=str(event.number)))


async def run(url: str, *, first: bool) -> None:
    if first:
        await create_tables(url)
    modules, settings = [module_of("mail", Kill, Slow)], quick_settings()
    app = MediatorApp("shop", modules=modules, database=url, environment="test", schema="create", settings=settings)
    async with app:
        if first:
            await app.publish_in_own_transaction(*(FactV1(number=number) for number in range(EVENTS)))
        await app.drained()


def effects_and_letters(url: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """What the handlers left, and the dead letters with their attempts."""
    effects = execute(url, "SELECT what, detail FROM test_effects ORDER BY detail")
    letters = execute(url, "SELECT subscriber_id, attempts FROM mediator_parked")
    return [(what, int(detail)) for what, detail in effects], [(name, attempts) for name, attempts in letters]


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], first="first" in sys.argv[2:]))
