"""A way to travel that refuses now and then, as brokers do; a key stops at its first refusal within a batch."""

from collections.abc import AsyncIterator, Sequence
from random import Random

from mediator.errors import PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.transports.memory import MemoryTransport

__all__ = ["ShakyTransport"]


class ShakyTransport(MemoryTransport):
    """In process, with refusals drawn from a seed."""

    def __init__(self, random: Random, refusals: float) -> None:
        super().__init__()
        self._random, self._refusals = random, refusals

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Refuse some, hand on the rest."""
        stopped: set[str | None] = set()
        taken: list[Envelope] = []
        for envelope in batch:
            if envelope.key in stopped or self._random.random() < self._refusals:
                stopped.add(envelope.key)
                yield envelope, PublishRefusedError(self.name, envelope.topic, "drawn by lot")
            else:
                taken.append(envelope)
        async for outcome in super().publish(taken):
            yield outcome
