"""A transport whose outcomes a test decides. It delivers to nobody: what it was given is its record."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mediator.errors import Fault
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Capabilities, Delivery, Health, Settlement, Subscription

__all__ = ["Answer", "ScriptedTransport", "confirm"]

Answer = Callable[[Envelope], Exception | None]
"""An envelope's outcome; what it raises ends the whole publication."""


def confirm(_envelope: Envelope) -> None:
    """The answer of a broker that is well."""


class ScriptedTransport:
    """Records every batch and, once `may_answer` is set, answers by the script. A key stops at its first failure."""

    name = "scripted"
    capabilities = Capabilities(durable=True, ordered=True)

    def __init__(self, answer: Answer = confirm) -> None:
        self.answer = answer
        self.batches: list[list[Envelope]] = []
        self.confirmed: list[Envelope] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @property
    def handed_over(self) -> list[Envelope]:
        return [envelope for batch in self.batches for envelope in batch]

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to disconnect from."""

    async def provision(self, topics: Any, groups: Any, *, create: bool = True) -> None:
        """Nothing to make."""

    async def check(self) -> Sequence[Fault]:
        """Nothing to set."""
        return ()

    async def health(self) -> Health:
        return Health(ok=True, round_trip=timedelta(0))

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        self.batches.append(list(batch))
        await self.may_answer.wait()
        failed_keys: dict[str, Exception] = {}
        for envelope in batch:
            behind = None if envelope.key is None else failed_keys.get(envelope.key)
            error = behind or self.answer(envelope)
            if error is None:
                self.confirmed.append(envelope)
            elif envelope.key is not None:
                failed_keys[envelope.key] = error
            yield envelope, error

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        return {}

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return _Silence()


class _Silence:
    """Never has anything."""

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        await asyncio.sleep(timeout.total_seconds())
        return []

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Nothing was given."""

    async def take(self, lanes: Collection[int]) -> None:
        """There are none."""

    async def widen(self, topics: Sequence[str]) -> None:
        """Nothing comes of these either."""

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing was given."""

    async def close(self) -> None:
        """Nothing was given."""
