"""What listens for one module: a consumer for its group, one for its broadcasts, and their retries.

Handlers may be added while it runs. They are known before anything is received for them: an event that came earlier
would be settled without them.
"""

import asyncio
from collections.abc import Callable, Sequence

from mediator.clock import Runtime
from mediator.consuming.circuit import Circuit
from mediator.consuming.consumer import Consumer
from mediator.consuming.group_commit import GroupCommit
from mediator.consuming.idempotent_consumer import IdempotentConsumer
from mediator.consuming.parking import Parking
from mediator.consuming.reading import Reader
from mediator.consuming.retries import Retries
from mediator.consuming.subscriber import Subscriber
from mediator.hosting.composition import Composition
from mediator.hosting.services import DatabaseServices
from mediator.hosting.settings import MediatorSettings
from mediator.messaging.invocation import compile_invocation
from mediator.messaging.registry import SubscriberEntry
from mediator.messaging.transport import Transport
from mediator.observability import Counters

__all__ = ["ModuleListening"]


class ModuleListening:
    """Consumers and retries of one module."""

    def __init__(
        self,
        module: str,
        composition: Composition,
        services: DatabaseServices,
        transports: Sequence[Transport],
        settings: MediatorSettings,
        runtime: Runtime,
        counters: Counters,
        instance: str,
        paused: set[str],
        one_suspect: asyncio.Lock,
        wake_retries: Callable[[], None],
    ) -> None:
        registry = composition.registry
        self._group, self._instance, self._composition = f"{registry.application}.{module}", instance, composition
        self._transports, self._settings, self._runtime, self._paused = transports, settings.consumer, runtime, paused
        self._services = services
        parking = Parking(services.database, runtime, wake_retries, services.died)
        self._idempotent = IdempotentConsumer(services.database, parking, services.open, runtime, counters)
        self._group_commit = GroupCommit(parking, services.open, runtime, self._idempotent)
        self._reader = Reader(
            module,
            registry.catalog,
            settings.limits,
            settings.foreign,
            services.database,
            runtime,
            services.died,
            counters,
        )
        self.consumers: dict[str, Consumer] = {}
        """By group."""
        self.retries = Retries(
            module,
            self._reader,
            self._idempotent,
            services.database,
            settings.consumer,
            paused,
            one_suspect,
            runtime,
        )

    def add(self, entry: SubscriberEntry) -> None:
        """Let a handler take part, or one that does already have other topics."""
        group = f"{self._group}.{self._instance}" if entry.broadcast else self._group
        if group not in self.consumers:
            self.consumers[group] = Consumer(
                group,
                self._reader,
                self._idempotent,
                self._group_commit,
                self._transports,
                self._settings,
                self._runtime,
                self._paused,
                self._services.lane_locks(group, lanes) if (lanes := self._transports[0].capabilities.lanes) else None,
            )
        subscriber = self._subscriber(entry)
        self.consumers[group].add(subscriber)
        self.retries.add(subscriber, self.consumers[group])

    async def listen(self) -> None:
        """Receive for every handler that takes part, and begin with the retries."""
        for consumer in self.consumers.values():
            await consumer.listen()
        await self.retries.prepare()
        self.retries.start()

    def _subscriber(self, entry: SubscriberEntry) -> Subscriber:
        # Every instance has its own copy of a broadcast, so its own rows in the inbox too.
        suffix = f"@{self._instance}" if entry.broadcast else ""
        return Subscriber(
            id=f"{entry.id}{suffix}",
            aliases=tuple(f"{alias}{suffix}" for alias in entry.aliases),
            topics=self._composition.registry.topics_of(entry),
            entry=entry,
            build=self._composition.plan(entry.handler_class),
            invoke=compile_invocation(entry.handler_class),
            circuit=Circuit(entry.id, entry.circuit_breaker, self._runtime.monotonic),
            middleware=self._composition.handling_middleware,
        )
