"""A way to travel that refuses now and then and delivers now and then twice, as brokers do.

A key stops at its first refusal within a batch.
"""

from collections.abc import AsyncIterator, Sequence
from random import Random

from mediator.errors import PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.transports.memory import MemoryTransport

__all__ = ["ShakyTransport"]


class ShakyTransport(MemoryTransport):
    """In process, with refusals and copies drawn from a seed."""

    def __init__(self, random: Random, refusals: float, copies: float) -> None:
        super().__init__()
        self._random, self._refusals, self._copies = random, refusals, copies

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Refuse some, hand on the rest; what has a copy is confirmed when both are acknowledged."""
        stopped: set[str | None] = set()
        taken: list[Envelope] = []
        for envelope in batch:
            if envelope.key in stopped or self._random.random() < self._refusals:
                stopped.add(envelope.key)
                yield envelope, PublishRefusedError(self.name, envelope.topic, "drawn by lot")
            else:
                taken.extend([envelope] * (2 if self._random.random() < self._copies else 1))
        left = [id(envelope) for envelope in taken]
        async for envelope, error in super().publish(taken):
            left.remove(id(envelope))
            if id(envelope) not in left:
                yield envelope, error
