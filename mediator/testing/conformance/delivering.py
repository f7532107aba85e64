"""What arrives: the same bytes and headers, at whoever listens, no more at once than asked for."""

import asyncio
from datetime import timedelta

from mediator.messaging.cloudevents import from_headers, to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, INVOICES, NOW, ORDERS, Member, Trial, bodies

__all__ = ["DeliveringPromises"]

_EVERY_BYTE = bytes(range(256))


class DeliveringPromises(Promises):
    """Tests of fetching."""

    @promise()
    async def test_a_delivery_says_what_it_carries(self, trial: Trial) -> None:
        sent = trial.envelope('{"total": 3}', key="order-1")

        delivery = await self._sent_through(trial, sent)

        assert (delivery.topic, delivery.body, delivery.attempt) == (ORDERS, b'{"total": 3}', 1)
        assert (delivery.event_id, delivery.key) == (str(sent.event_id), "order-1")

    @promise()
    async def test_what_has_no_key_arrives_without_one(self, trial: Trial) -> None:
        delivery = await self._sent_through(trial, trial.envelope())

        assert delivery.key is None
        assert "ce-partitionkey" not in delivery.headers

    @promise()
    async def test_every_attribute_and_header_arrives_unchanged(self, trial: Trial) -> None:
        sent = trial.envelope(
            key="Zoë’s order|1 %",
            correlation_id="correlation 1",
            causation_id="causation-2",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            callback="test.shop.public.answers.v1",
            headers={"tenant": "Zürich “Nord” 東京 \U0001f600", "Mixed-Case": " space % ", "empty": ""},
        )

        delivery = await self._sent_through(trial, sent)

        assert dict(delivery.headers) == to_headers(sent)
        assert from_headers(delivery.topic, delivery.headers, delivery.body) == sent
        assert delivery.key == sent.key

    @promise()
    async def test_a_large_body_arrives_unchanged(self, trial: Trial) -> None:
        sent = trial.envelope(_EVERY_BYTE * 1024)

        delivery = await self._sent_through(trial, sent)

        assert len(delivery.body) == 256 * 1024
        assert delivery.body == sent.body

    @promise()
    async def test_an_empty_body_arrives(self, trial: Trial) -> None:
        delivery = await self._sent_through(trial, trial.envelope(b""))

        assert delivery.body == b""

    @promise()
    async def test_a_group_gets_only_what_it_listens_to(self, trial: Trial) -> None:
        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS]})
        member = await trial.join(topics=[ORDERS])

        await trial.send(trial.envelope("1", topic=INVOICES), trial.envelope("2"), trial.envelope("3", topic=INVOICES))

        assert bodies(await member.fetch(1)) == ["2"]
        await member.fetch_nothing()

    @promise()
    async def test_fetching_gives_no_more_than_asked_for(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(5))

        sizes = [len(await member.subscription.fetch(2, self.patience)) for _ in range(2)]

        assert max(sizes) <= 2
        assert len(await member.fetch(5 - sum(sizes))) == 5 - sum(sizes)

    @promise()
    async def test_fetching_does_not_wait_to_fill_up(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        waiting = asyncio.create_task(member.subscription.fetch(100, timedelta(hours=1)))

        await trial.send(trial.envelope("1"))

        async with asyncio.timeout(self.patience.total_seconds()):
            assert bodies(await waiting) == ["1"]

    @promise()
    async def test_fetching_gives_nothing_when_nothing_comes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()

        assert list(await member.subscription.fetch(10, NOW)) == []
        assert list(await member.subscription.fetch(10, self.quiet)) == []

    @promise()
    async def test_no_more_than_the_prefetch_is_unsettled(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join(prefetch=3)
        await trial.send(*trial.numbered(7))

        first = await _together(member, 3)
        await member.fetch_nothing()
        await member.acknowledge(first[0], first[2])
        second = await _together(member, 2)
        await member.fetch_nothing()
        await member.acknowledge(first[1], *second)

        assert sorted(bodies([*first, *second, *await member.fetch(2)])) == [str(number) for number in range(7)]

    @promise()
    async def test_a_member_without_room_gets_more_once_it_has_settled(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join(prefetch=1)
        await trial.send(*trial.numbered(2, keys=["order-1"]))
        (first,) = await member.fetch(1)
        waiting = asyncio.create_task(member.subscription.fetch(10, self.patience))

        await asyncio.wait([waiting], timeout=self.quiet.total_seconds())
        assert not waiting.done()
        await member.acknowledge(first)

        assert bodies([*await waiting]) == ["1"]

    @promise("wildcards")
    async def test_a_star_is_one_segment(self, trial: Trial) -> None:
        await self._check_pattern(trial, "test.shop.*.orders.v1", [ORDERS, "test.shop.internal.orders.v1"])

    @promise("wildcards")
    async def test_a_hash_is_any_number_of_segments(self, trial: Trial) -> None:
        await self._check_pattern(trial, "test.shop.#", [ORDERS, INVOICES, "test.shop.internal.orders.v1", "test.shop"])

    @promise("wildcards")
    async def test_what_two_patterns_mean_arrives_once(self, trial: Trial) -> None:
        patterns = ["test.shop.#", "test.*.public.orders.v1", ORDERS]
        await trial.transport.provision([ORDERS], {BILLING: patterns})
        member = await trial.join(topics=patterns)

        await trial.send(trial.envelope("1"))

        assert bodies(await member.fetch(1)) == ["1"]
        await member.fetch_nothing()

    @promise()
    async def test_a_member_may_widen_what_it_receives(self, trial: Trial) -> None:
        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS]})
        member = await trial.join(topics=[ORDERS])
        await trial.send(trial.envelope("1"))
        under_way = await member.fetch(1)

        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS, INVOICES]})
        await member.subscription.widen([INVOICES])
        await trial.send(trial.envelope("2", topic=INVOICES), trial.envelope("3"))

        assert sorted(bodies(await member.fetch(2))) == ["2", "3"]
        await member.acknowledge(*under_way)
        await member.fetch_nothing()

    async def _sent_through(self, trial: Trial, envelope: Envelope) -> Delivery:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(envelope)
        (delivery,) = await member.fetch(1)
        return delivery

    async def _check_pattern(self, trial: Trial, pattern: str, meant: list[str]) -> None:
        topics = [ORDERS, INVOICES, "test.shop.internal.orders.v1", "test.shop", "test.store.public.orders.v1"]
        await trial.transport.provision(topics, {BILLING: [pattern]})
        member = await trial.join(topics=[pattern])

        await trial.send(*(trial.envelope(topic=topic) for topic in topics))

        found = await member.fetch(len(meant))
        assert sorted(delivery.topic for delivery in found) == sorted(meant)
        await member.fetch_nothing()


async def _together(member: Member, count: int) -> list[Delivery]:
    """So many deliveries, asking for more of them."""
    found: list[Delivery] = []
    while len(found) < count:
        more = await member.subscription.fetch(100, member.patience)
        assert more, f"{count} deliveries have to come, and these came: {bodies(found)}"
        found += more
    assert len(found) == count, f"no more than {count} may be unsettled, and these came: {bodies(found)}"
    return found
