"""A way to travel that refuses now and then and delivers now and then twice, as brokers do.

A key stops at its first refusal within a batch. Everything else is what the transport below does.
"""

from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any, cast

from mediator.errors import PublishRefusedError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Transport

__all__ = ["shaky"]


def shaky(transport: Transport, random: Random, refusals: float, copies: float) -> Transport:
    """The transport, with refusals and copies drawn from a seed."""
    return cast(Transport, _ShakyTransport(transport, random, refusals, copies))


class _ShakyTransport:
    def __init__(self, transport: Transport, random: Random, refusals: float, copies: float) -> None:
        self._transport, self._random, self._refusals, self._copies = transport, random, refusals, copies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """Refuse some, hand on the rest; what has a copy is confirmed when both are acknowledged."""
        stopped: set[str | None] = set()
        taken: list[Envelope] = []
        for envelope in batch:
            if envelope.key in stopped or self._random.random() < self._refusals:
                stopped.add(envelope.key)
                yield envelope, PublishRefusedError(self._transport.name, envelope.topic, "drawn by lot")
            else:
                taken.extend([envelope] * (2 if self._random.random() < self._copies else 1))
        left = [id(envelope) for envelope in taken]
        errors: dict[int, Exception] = {}
        async for envelope, error in self._transport.publish(taken):
            left.remove(id(envelope))
            if error is not None:
                errors[id(envelope)] = error
            if id(envelope) not in left:
                yield envelope, errors.get(id(envelope))
