"""What becomes of a delivery: it comes again until it is acknowledged, and then never."""

import asyncio
from itertools import pairwise

from mediator.messaging.transport import Settlement
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, STOCK, Member, Trial, bodies

__all__ = ["SettlingPromises"]


class SettlingPromises(Promises):
    """Tests of settling."""

    @promise("ordered")
    async def test_what_a_closed_member_did_not_settle_comes_again_in_order(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 3, of=5)
        await leaving.close()

        came = await (await self._next_member(trial)).fetch(5)

        assert bodies(came) == ["0", "1", "2", "3", "4"]
        assert all(delivery.attempt > 1 for delivery in came[:3])

    @promise("durable_groups", "ordered")
    async def test_what_a_closed_process_did_not_settle_comes_again_in_order(self, trial: Trial) -> None:
        process = await trial.open()
        await trial.provision(BILLING)
        member = await trial.join(transport=process)
        await trial.send(*trial.numbered(5, keys=["order-1"]))
        await member.fetch(3)
        await process.close()

        came = await (await trial.join()).fetch(5)

        assert bodies(came) == ["0", "1", "2", "3", "4"]
        assert all(delivery.attempt > 1 for delivery in came[:3])

    @promise()
    async def test_what_is_settled_never_comes_again(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=4)
        first, second, third, last = await leaving.fetch(4)
        await leaving.acknowledge(first, second)
        await leaving.settle(Settlement.REJECT, third)
        await leaving.acknowledge(last)
        await leaving.close()

        await (await self._next_member(trial)).fetch_nothing()

    @promise()
    async def test_what_is_given_back_comes_again_with_a_higher_attempt(self, trial: Trial) -> None:
        member = await self._member_with(trial, 0, of=1)
        attempts = []
        for _ in range(3):
            (delivery,) = await member.fetch(1)
            attempts.append(delivery.attempt)
            await member.settle(Settlement.GIVE_BACK, delivery)

        (last,) = await member.fetch(1)
        await member.acknowledge(last)

        assert all(earlier < later for earlier, later in pairwise([*attempts, last.attempt])), attempts
        await member.fetch_nothing()

    @promise()
    async def test_what_is_given_back_loses_nothing_of_what_came_with_it(self, trial: Trial) -> None:
        member = await self._member_with(trial, 0, of=5)
        first, second, *_ = await member.fetch(3)
        await member.settle(Settlement.GIVE_BACK, first)
        await member.acknowledge(second)

        assert {"0", "3", "4"} <= set(bodies(await member.fetch_all()))

    @promise("durable_groups")
    async def test_it_tells_what_is_not_settled(self, trial: Trial) -> None:
        await trial.provision(BILLING, STOCK)
        member = await trial.join()
        await trial.send(*trial.numbered(5))

        await _tells(trial, {BILLING: 5, STOCK: 5})
        first, second, *others = await member.fetch(5)
        await member.acknowledge(first, second)
        await _tells(trial, {BILLING: 3, STOCK: 5})
        await member.acknowledge(*others)
        await _tells(trial, {BILLING: 0, STOCK: 5})

    @promise()
    async def test_settling_again_is_ignored(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=2)
        first, second = await leaving.fetch(2)

        await leaving.subscription.settle([(first, Settlement.ACK), (first, Settlement.ACK)])
        await leaving.acknowledge(first)
        await leaving.settle(Settlement.GIVE_BACK, first)
        await leaving.acknowledge(second)

        await leaving.fetch_nothing()
        await leaving.close()
        await (await self._next_member(trial)).fetch_nothing()

    @promise()
    async def test_the_settlement_of_what_was_given_back_is_ignored(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=1)
        (first,) = await leaving.fetch(1)
        await leaving.settle(Settlement.GIVE_BACK, first)
        (again,) = await leaving.fetch(1)

        await leaving.acknowledge(first)
        await leaving.close()

        assert bodies(await (await self._next_member(trial)).fetch(1)) == bodies([again])

    @promise()
    async def test_settling_after_closing_is_harmless(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=2)
        first, second = await leaving.fetch(2)
        await leaving.close()

        await leaving.acknowledge(first)
        await leaving.settle(Settlement.GIVE_BACK, second)

        assert "1" in bodies(await (await self._next_member(trial)).fetch_all())

    @promise("settles_singly", "ordered")
    async def test_of_what_is_settled_out_of_order_only_the_rest_comes_again(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=6)
        found = await leaving.fetch(6)
        await leaving.acknowledge(found[4], found[2])
        await leaving.acknowledge(found[5])
        await leaving.close()

        next_member = await self._next_member(trial)

        assert bodies(await next_member.fetch(3)) == ["0", "1", "3"]
        await next_member.fetch_nothing()

    @promise()
    async def test_settling_out_of_order_loses_nothing(self, trial: Trial) -> None:
        leaving = await self._member_with(trial, 0, of=6)
        found = await leaving.fetch(6)
        await leaving.acknowledge(found[5], found[1])
        await leaving.acknowledge(found[0])
        await leaving.close()

        came = bodies(await (await self._next_member(trial)).fetch_all())

        assert {"2", "3", "4"} <= set(came)
        assert {"0", "1"}.isdisjoint(came), "all up to there was settled"

    @promise()
    async def test_extending_changes_nothing(self, trial: Trial) -> None:
        member = await self._member_with(trial, 0, of=2)
        found = await member.fetch(2)

        await member.subscription.extend(found)
        await member.fetch_nothing()
        await member.acknowledge(*found)
        await member.subscription.extend(found)

        await member.fetch_nothing()

    @promise()
    async def test_closing_a_member_twice_is_harmless(self, trial: Trial) -> None:
        member = await self._member_with(trial, 1, of=1)

        await member.close()
        await member.close()

        assert bodies(await (await self._next_member(trial)).fetch(1)) == ["0"]

    @promise()
    async def test_closing_ends_a_fetch_that_is_under_way(self, trial: Trial) -> None:
        member = await self._member_with(trial, 0, of=0)
        waiting = asyncio.create_task(member.subscription.fetch(10, self.quiet * 3))
        await asyncio.sleep(0)

        await member.close()

        async with asyncio.timeout(self.patience.total_seconds()):
            assert list(await waiting) == []

    async def _member_with(self, trial: Trial, fetched: int, *, of: int) -> Member:
        """A member that has fetched some of those that were published with one key."""
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(of, keys=["order-1"]))
        await member.fetch(fetched)
        return member

    async def _next_member(self, trial: Trial) -> Member:
        return await trial.join(transport=await trial.another_process())


async def _tells(trial: Trial, expected: dict[str, int]) -> None:
    """Brokers and members may gather what was settled for a moment."""
    told: object = None
    try:
        async with asyncio.timeout(10):
            while True:
                told = await trial.transport.backlog(list(expected))
                if told == expected:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{expected} are not settled, and it tells {told}") from None
