"""A trial: transports of one application, members of its groups and what they were given, for the time of a test."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from mediator.clock import Runtime
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription, Transport

if TYPE_CHECKING:
    from mediator.testing.conformance.promises import Promises

__all__ = [
    "BILLING",
    "INVOICES",
    "NOW",
    "ORDERS",
    "STOCK",
    "Member",
    "Outcome",
    "Trial",
    "bodies",
    "confirmed",
    "in_order_per_key",
]

ORDERS: Final = "test.shop.public.orders.v1"
INVOICES: Final = "test.shop.public.invoices.v1"
BILLING: Final = "shop.billing"
STOCK: Final = "shop.stock"
NOW: Final = timedelta(0)
_A_MOMENT: Final = timedelta(seconds=1)

Outcome = tuple[Envelope, Exception | None]


class Member:
    """A member of a group."""

    def __init__(self, subscription: Subscription, suite: "Promises") -> None:
        self.subscription, self._suite = subscription, suite

    @property
    def patience(self) -> timedelta:
        return self._suite.patience

    async def fetch(self, count: int) -> list[Delivery]:
        """So many deliveries, no more, however often it takes to fetch them."""
        found: list[Delivery] = []
        try:
            async with asyncio.timeout(self._suite.patience.total_seconds()):
                while len(found) < count:
                    found += await self.subscription.fetch(count - len(found), _A_MOMENT)
        except TimeoutError:
            raise AssertionError(f"{count} deliveries have to come, and these came: {bodies(found)}") from None
        return found

    async def fetch_all(self) -> list[Delivery]:
        """What comes until nothing more does; something has to."""
        found = [*await self.subscription.fetch(100, self.patience)]
        while more := await self.subscription.fetch(100, self._suite.quiet):
            found += more
        return found

    async def fetch_nothing(self) -> None:
        """Nothing must come."""
        found = await self.subscription.fetch(100, self._suite.quiet)
        assert bodies(found) == [], "nothing is to be delivered here"

    async def settle(self, how: Settlement, *deliveries: Delivery) -> None:
        await self.subscription.settle([(delivery, how) for delivery in deliveries])

    async def acknowledge(self, *deliveries: Delivery) -> None:
        await self.settle(Settlement.ACK, *deliveries)

    async def close(self) -> None:
        await self.subscription.close()


class Trial:
    """What one test makes; all of it is closed and removed at the end, however that comes."""

    transport: Transport

    def __init__(self, suite: "Promises") -> None:
        self._suite = suite
        self._runtime = Runtime()
        self._exit = AsyncExitStack()
        self.application = self.new_application()
        self._publications: list[asyncio.Task[list[Outcome]]] = []

    async def __aenter__(self) -> Self:
        self._exit.push_async_callback(self._end_publications)
        try:
            self.transport = await self.open()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        async with asyncio.timeout(self._suite.longest.total_seconds()):
            await self._exit.aclose()

    @property
    def lanes(self) -> range:
        """All lanes of the transport."""
        return range(self.transport.capabilities.lanes)

    def new_application(self) -> str:
        """The name of an application that nobody else has; what is made for it is removed at the end."""
        application = f"trial-{self._runtime.new_id().hex[-12:]}"
        self._exit.push_async_callback(self._suite.clean_up, application)
        return application

    async def open(self, application: str | None = None) -> Transport:
        """Another process of the application, or of another one."""
        transport = self._suite.make_transport(application or self.application)
        self._exit.push_async_callback(transport.close)
        await transport.open()
        return transport

    async def another_process(self) -> Transport:
        """A second process of the application; in process there is only one."""
        return self.transport if self.transport.capabilities.in_process else await self.open()

    async def provision(self, *groups: str, topics: Collection[str] = (ORDERS, INVOICES)) -> None:
        """Make these groups, which listen to all of the topics."""
        await self.transport.provision(topics, dict.fromkeys(groups, topics))

    async def join(
        self,
        group: str = BILLING,
        topics: Sequence[str] = (ORDERS, INVOICES),
        *,
        prefetch: int = 100,
        transport: Transport | None = None,
        lanes: Collection[int] | None = None,
    ) -> Member:
        """Become a member that has these lanes, or all of them."""
        joined = await (transport or self.transport).subscribe(group, topics, prefetch)
        self._exit.push_async_callback(joined.close)
        if self.lanes:
            await joined.take(self.lanes if lanes is None else lanes)
        return Member(joined, self._suite)

    def envelope(self, body: str | bytes = "{}", **facts: Any) -> Envelope:
        """An envelope for ORDERS without a key, unless the facts say otherwise."""
        return Envelope(
            **{
                "event_id": self._runtime.new_id(),
                "topic": ORDERS,
                "type": "shop.order-placed",
                "version": "v1",
                "body": body if isinstance(body, bytes) else body.encode(),
                "occurred_on": datetime(2026, 1, 31, 12, 30, 15, 123456, tzinfo=UTC),
                "source": "/shop/ordering",
                **facts,
            }
        )

    def numbered(self, count: int, *, keys: Sequence[str | None] = (None,), first: int = 0) -> list[Envelope]:
        """Envelopes whose bodies count up, over the keys and, if that keeps their order, the two topics in turn."""
        topics = (ORDERS, INVOICES) if self._suite.orders_across_topics else (ORDERS,)
        return [
            self.envelope(str(number), key=keys[number % len(keys)], topic=topics[number // len(keys) % len(topics)])
            for number in range(first, first + count)
        ]

    async def outcomes(self, batch: Sequence[Envelope], transport: Transport | None = None) -> list[Outcome]:
        """Publish, and wait for every outcome."""
        return [outcome async for outcome in (transport or self.transport).publish(batch)]

    def publishing(self, *batch: Envelope, transport: Transport | None = None) -> asyncio.Task[list[Outcome]]:
        """Publish in the background: where it takes acknowledgements for a confirmation, they come from the test."""
        publication = asyncio.create_task(self.outcomes(batch, transport))
        self._publications.append(publication)
        return publication

    async def send(self, *batch: Envelope, transport: Transport | None = None) -> None:
        """Publish what has to be confirmed; returns when the groups have it, or will have it by themselves."""
        publication = self.publishing(*batch, transport=transport)
        if self._suite.confirms_after_acknowledgement:
            await asyncio.sleep(0)
        else:
            assert confirmed(await publication) == len(batch), await publication

    async def consume(self, members: Sequence[Member], count: int) -> list[Delivery]:
        """Let members fetch and acknowledge until so many different events have come; all deliveries as they came."""
        came: list[Delivery] = []
        ids: set[str | None] = set()
        complete = asyncio.Event()

        async def work(member: Member) -> None:
            while not complete.is_set():
                found = await member.subscription.fetch(10, timedelta(milliseconds=200))
                came.extend(found)
                ids.update(delivery.event_id for delivery in found)
                if len(ids) >= count:
                    complete.set()
                await member.acknowledge(*found)

        workers = [asyncio.create_task(work(member)) for member in members]
        try:
            async with asyncio.timeout(self._suite.patience.total_seconds()):
                await asyncio.gather(*workers)
        except TimeoutError:
            raise AssertionError(f"{count} events have to come, and {len(ids)} came: {bodies(came)}") from None
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return came

    async def _end_publications(self) -> None:
        """The transports are closed, which ends what was under way."""
        if not self._publications:
            return
        ended, hanging = await asyncio.wait(self._publications, timeout=self._suite.patience.total_seconds())
        for publication in hanging:
            publication.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert not hanging, f"{len(hanging)} publications go on although the transport is closed"
        for publication in ended:
            publication.result()


def confirmed(outcomes: Sequence[Outcome]) -> int:
    """How many of them were confirmed."""
    return sum(error is None for _, error in outcomes)


def bodies(deliveries: Sequence[Delivery]) -> list[str]:
    """What to compare: their bodies, which count up where order matters."""
    return [delivery.body.decode(errors="replace")[:40] for delivery in deliveries]


def in_order_per_key(deliveries: Sequence[Delivery]) -> Mapping[str | None, list[int]]:
    """The numbers of each key as they arrived, an event that came again where it came first."""
    first = {delivery.event_id: delivery for delivery in reversed(deliveries)}
    found: dict[str | None, list[int]] = {}
    for delivery in deliveries:
        if first[delivery.event_id] is delivery:
            found.setdefault(delivery.key, []).append(int(delivery.body))
    return found
