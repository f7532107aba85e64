"""Lanes: each belongs to one member, and goes from one to another with what is unsettled in it."""

import asyncio

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import lane_of
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, Member, Trial, bodies, in_order_per_key

__all__ = ["LanePromises"]

_KEYS = [f"order-{number}" for number in range(20)]


class LanePromises(Promises):
    """Tests of taking and giving up lanes."""

    @promise("has_lanes")
    async def test_nothing_comes_before_a_lane_is_taken(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join(lanes=())
        await trial.send(*trial.numbered(5))
        await member.fetch_nothing()

        await member.subscription.take(trial.lanes)

        assert len(await member.fetch(5)) == 5

    @promise("has_lanes")
    async def test_a_delivery_names_the_lane_of_its_key(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        batch = trial.numbered(40, keys=[*_KEYS, None])
        await trial.send(*batch)

        lanes = {delivery.event_id: delivery.lane for delivery in await member.fetch(40)}

        assert lanes == {str(sent.event_id): lane_of(sent, len(trial.lanes)) for sent in batch}

    @promise("has_lanes")
    async def test_a_member_gets_only_what_is_in_its_lanes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        mine = trial.lanes[: len(trial.lanes) // 2]
        member = await trial.join(lanes=mine)
        batch = trial.numbered(40, keys=_KEYS)
        await trial.send(*batch)
        expected = [sent for sent in batch if self._lane(trial, sent) in mine]

        came = await member.fetch(len(expected))

        assert sorted(map(int, bodies(came))) == [int(sent.body) for sent in expected]
        await member.fetch_nothing()

    @promise("has_lanes")
    async def test_taking_the_same_lanes_again_changes_nothing(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(4, keys=["order-1"]))
        first = await member.fetch(2)

        await member.subscription.take(trial.lanes)

        assert bodies([*first, *await member.fetch(2)]) == ["0", "1", "2", "3"]
        await member.fetch_nothing()

    @promise("has_lanes")
    async def test_a_lane_that_is_given_up_is_not_fetched_from_and_may_still_be_settled(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        batch = trial.numbered(4, keys=["order-1"])
        lane = self._lane(trial, batch[0])
        member, other = await trial.join(), await trial.join(transport=await trial.another_process(), lanes=())
        await trial.send(*batch)
        fetched = await member.fetch(2)

        await member.subscription.take([some for some in trial.lanes if some != lane])
        await member.fetch_nothing()
        await member.acknowledge(*fetched)
        await other.subscription.take([lane])

        assert bodies(await other.fetch(2)) == ["2", "3"]
        await other.fetch_nothing()
        await member.fetch_nothing()

    @promise("has_lanes")
    async def test_giving_up_a_lane_ends_what_is_fetched_of_it_while_a_fetch_is_under_way(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member, other = await trial.join(), await trial.join(transport=await trial.another_process(), lanes=())
        waiting = asyncio.create_task(member.subscription.fetch(10, self.patience))
        await asyncio.sleep(self.quiet.total_seconds())

        await member.subscription.take(())
        await other.subscription.take(trial.lanes)
        await trial.send(*trial.numbered(4, keys=["order-1"]))

        assert bodies(await other.fetch(4)) == ["0", "1", "2", "3"]
        assert not waiting.done() or not waiting.result()
        waiting.cancel()
        await asyncio.wait([waiting])

    @promise("has_lanes")
    async def test_a_lane_is_handed_over_with_what_is_unsettled(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        giving, taking = await trial.join(), await trial.join(transport=await trial.another_process(), lanes=())
        await trial.send(*trial.numbered(6, keys=["order-1"]))
        first, _, third = await giving.fetch(3)
        await giving.acknowledge(first)

        await giving.subscription.take(())
        await taking.subscription.take(trial.lanes)
        came = await taking.fetch(5)

        assert bodies(came) == ["1", "2", "3", "4", "5"]
        assert all(delivery.attempt > 1 for delivery in came[:2])
        # It was handed over: whoever has it now settles it.
        await giving.acknowledge(third)
        await taking.acknowledge(*came)
        await taking.fetch_nothing()

    @promise("has_lanes")
    async def test_a_key_keeps_its_order_while_lanes_move(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        another = await trial.another_process()
        members = [await trial.join(transport=process, lanes=()) for process in (trial.transport, another, another)]
        moving = asyncio.create_task(self._move_lanes(trial, members))
        sending = asyncio.create_task(self._send_much(trial))
        try:
            came = await trial.consume(members, 600)
        finally:
            moving.cancel()
            await asyncio.gather(moving, sending, return_exceptions=True)

        for key, numbers in in_order_per_key(came).items():
            assert numbers == list(range(_KEYS.index(str(key)), 600, len(_KEYS))), key

    async def _move_lanes(self, trial: Trial, members: list[Member]) -> None:
        had: list[set[int]] = [set() for _ in members]
        turn = 0
        while True:
            has = [{lane for lane in trial.lanes if (lane + turn) % len(members) == at} for at in range(len(members))]
            # As the core does it: a lane is given up before somebody else takes it.
            for member, before, after in zip(members, had, has, strict=True):
                await member.subscription.take(before & after)
            for member, after in zip(members, has, strict=True):
                await member.subscription.take(after)
            had = has
            turn += 1
            await asyncio.sleep(0.1)

    async def _send_much(self, trial: Trial) -> None:
        for first in range(0, 600, 20):
            await trial.send(*trial.numbered(20, keys=_KEYS, first=first))
            await asyncio.sleep(0.02)

    @staticmethod
    def _lane(trial: Trial, sent: Envelope) -> int:
        return lane_of(sent, len(trial.lanes))
