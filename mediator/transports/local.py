"""Local events: what never leaves the application goes in process, whatever broker the others go to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from mediator.messaging.envelope import Envelope
from mediator.messaging.supervision import ended
from mediator.messaging.transport import Publisher

__all__ = ["LocalBeside"]


class LocalBeside:
    """Hands each envelope over to one of two: there is no order between what goes in process and what does not."""

    def __init__(self, broker: Publisher, local: Publisher, is_local: Callable[[Envelope], bool]) -> None:
        self.name = broker.name
        self._broker, self._local, self._is_local = broker, local, is_local

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Give the outcomes of both as they become known."""
        local = [envelope for envelope in batch if self._is_local(envelope)]
        others = [envelope for envelope in batch if not self._is_local(envelope)]
        ways = [way.publish(part) for way, part in ((self._broker, others), (self._local, local)) if part]
        awaited = {asyncio.ensure_future(anext(way)): way for way in ways}
        try:
            while awaited:
                known, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                for outcome in known:
                    way = awaited.pop(outcome)
                    try:
                        yield outcome.result()
                    except StopAsyncIteration:
                        continue
                    awaited[asyncio.ensure_future(anext(way))] = way
        finally:
            for outcome in awaited:
                outcome.cancel()
            await ended(awaited)
