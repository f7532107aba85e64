"""Opening, closing, and what happens when the connection is lost in between."""

import asyncio
from collections import Counter
from datetime import timedelta

from mediator.errors import Fault, TransportUnavailableError
from mediator.messaging.transport import Health
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, Member, Trial, bodies, confirmed

__all__ = ["ConnectionPromises"]

_AGAIN = timedelta(milliseconds=50)


class ConnectionPromises(Promises):
    """Tests of a transport's life."""

    @promise()
    async def test_it_can_do_what_the_suite_was_told(self, trial: Trial) -> None:
        can = trial.transport.capabilities

        assert trial.transport.name
        assert (can.wildcards, can.ordered, can.lanes > 0) == (self.wildcards, self.ordered, self.has_lanes)
        assert can.in_process or self.durable_groups

    @promise()
    async def test_it_is_well_while_it_is_open(self, trial: Trial) -> None:
        health = await trial.transport.health()

        assert (health.ok, health.detail) == (True, health.detail)
        assert health.round_trip >= timedelta(0)

    @promise()
    async def test_it_is_not_well_when_it_is_closed(self, trial: Trial) -> None:
        await trial.transport.close()

        health = await trial.transport.health()

        assert isinstance(health, Health)
        assert not health.ok

    @promise()
    async def test_closing_twice_is_harmless(self, trial: Trial) -> None:
        await trial.transport.close()
        await trial.transport.close()

    @promise()
    async def test_checking_gives_faults(self, trial: Trial) -> None:
        for fault in await trial.transport.check():
            assert isinstance(fault, Fault)
            assert fault.kind == "broker"
            assert fault.where
            assert fault.what
            assert fault.fix

    @promise()
    async def test_closing_while_busy_ends_with_an_outcome_for_everything(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join(prefetch=10)
        publication = trial.publishing(*trial.numbered(500, keys=["order-1", "order-2", None]))
        fetched = await member.fetch(5)
        waiting = asyncio.create_task(member.subscription.fetch(10, self.quiet))
        more = trial.publishing(*trial.numbered(500, keys=["order-1", "order-2", None]))
        await asyncio.sleep(0)

        async with asyncio.timeout(self.patience.total_seconds()):
            await trial.transport.close()
            outcomes = [*await publication, *await more]
            await asyncio.wait([waiting])

        assert len(fetched) == 5
        assert len(outcomes) == 1000
        assert {type(error) for _, error in outcomes} <= {type(None), TransportUnavailableError}
        assert not waiting.exception()

    @promise("durable_groups")
    async def test_closing_while_busy_loses_nothing(self, trial: Trial) -> None:
        process = await trial.open()
        await trial.provision(BILLING)
        member = await trial.join(transport=process, prefetch=10)
        publication = trial.publishing(*trial.numbered(300, keys=["order-1", "order-2", None]), transport=process)
        await member.fetch(5)
        await process.close()
        sure = {str(sent.event_id) for sent, error in await publication if error is None}

        await self._until_all_came(await trial.join(), sure)

    @promise("break_connection", "redelivers_after_break")
    async def test_after_a_break_what_is_unsettled_comes_first_and_in_order(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(6, keys=["order-1"]))
        first, *unsettled = await member.fetch(4)
        await member.acknowledge(first)

        await self.break_connection(trial.transport)
        again = await member.fetch(5)

        assert bodies(again) == ["1", "2", "3", "4", "5"]
        assert all(delivery.attempt > 1 for delivery in again[:3])
        assert {delivery.epoch for delivery in again}.isdisjoint(delivery.epoch for delivery in unsettled)
        await member.acknowledge(*unsettled)
        await member.close()
        assert bodies(await (await trial.join()).fetch(5)) == ["1", "2", "3", "4", "5"], "the old epoch is over"

    @promise("break_connection", "redelivers_after_break")
    async def test_a_break_while_it_waits_brings_what_is_unsettled_again(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(3, keys=["order-1"]))
        await member.fetch(3)
        waiting = asyncio.create_task(member.fetch(3))
        await asyncio.sleep(self.quiet.total_seconds())

        await self.break_connection(trial.transport)

        assert bodies(await waiting) == ["0", "1", "2"]

    @promise("break_connection")
    async def test_after_a_break_what_is_unsettled_comes_again_or_can_be_settled(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(6, keys=["order-1"]))
        unsettled = await member.fetch(3)

        await self.break_connection(trial.transport)
        rest = await member.fetch(6 if self.redelivers_after_break else 3)
        await member.acknowledge(*unsettled, *rest)
        await member.close()

        assert set(bodies([*unsettled, *rest])) == {"0", "1", "2", "3", "4", "5"}
        await (await trial.join()).fetch_nothing()

    @promise("break_connection")
    async def test_after_a_break_it_publishes_again_by_itself(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(trial.envelope("1"))

        await self.break_connection(trial.transport)
        await self._until_confirmed(trial, member)

        assert (await trial.transport.health()).ok

    @promise("break_connection")
    async def test_a_break_while_it_publishes_loses_nothing_that_was_confirmed(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        batch = trial.numbered(500, keys=[f"order-{number}" for number in range(20)])
        publication = trial.publishing(*batch)
        await asyncio.sleep(0)

        await self.break_connection(trial.transport)
        outcomes = await publication

        assert Counter(id(sent) for sent, _ in outcomes) == Counter(map(id, batch))
        assert {type(error) for _, error in outcomes} <= {type(None), TransportUnavailableError}
        sure = {str(sent.event_id) for sent, error in outcomes if error is None}
        await self._until_all_came(member, sure)

    async def _until_all_came(self, member: Member, sure: set[str]) -> None:
        """What was stored without being confirmed comes as well, so they cannot be counted."""
        missing = set(sure)
        async with asyncio.timeout(self.patience.total_seconds()):
            while missing:
                found = await member.subscription.fetch(100, self.quiet)
                missing -= {str(delivery.event_id) for delivery in found}
                await member.acknowledge(*found)

    async def _until_confirmed(self, trial: Trial, member: Member) -> None:
        sent = trial.envelope("2")
        async with asyncio.timeout(self.patience.total_seconds()):
            while not confirmed(outcomes := await trial.outcomes([sent])):
                assert isinstance(outcomes[0][1], TransportUnavailableError)
                await asyncio.sleep(_AGAIN.total_seconds())
            while str(sent.event_id) not in {
                delivery.event_id for delivery in await member.subscription.fetch(10, self.quiet)
            }:
                pass
