"""Groups and their members: every group gets a copy, its members share it, and a key keeps its order."""

from mediator.messaging.transport import Settlement
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, STOCK, Member, Trial, bodies, in_order_per_key

__all__ = ["SharingPromises"]

_KEYS = [f"order-{number}" for number in range(20)]


class SharingPromises(Promises):
    """Tests of groups."""

    @promise()
    async def test_every_group_gets_a_copy(self, trial: Trial) -> None:
        await trial.provision(BILLING, STOCK)
        billing = await trial.join(BILLING)
        stock = await trial.join(STOCK, transport=await trial.another_process())

        await trial.send(*trial.numbered(5, keys=["order-1", None]))

        for member in (billing, stock):
            assert sorted(bodies(await member.fetch(5))) == ["0", "1", "2", "3", "4"]
            await member.fetch_nothing()

    @promise()
    async def test_what_a_group_does_is_nothing_to_another(self, trial: Trial) -> None:
        await trial.provision(BILLING, STOCK)
        billing, stock = await trial.join(BILLING), await trial.join(STOCK)
        await trial.send(trial.envelope("1"))
        (delivery,), (other,) = await billing.fetch(1), await stock.fetch(1)

        await billing.acknowledge(delivery)
        await stock.settle(Settlement.GIVE_BACK, other)

        assert bodies(await stock.fetch(1)) == ["1"]
        await billing.fetch_nothing()

    @promise()
    async def test_members_share_what_their_group_gets(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        members = await self._two_members(trial)
        await trial.send(*trial.numbered(60, keys=_KEYS))

        came = await trial.consume(members, 60)

        assert sorted(map(int, bodies(came))) == list(range(60)), "each of them once"
        for member in members:
            await member.fetch_nothing()

    @promise("ordered")
    async def test_a_key_keeps_its_order_over_several_members_and_topics(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        members = await self._two_members(trial)
        for first in range(0, 200, 40):
            await trial.send(*trial.numbered(40, keys=_KEYS, first=first))

        came = await trial.consume(members, 200)

        for key, numbers in in_order_per_key(came).items():
            assert numbers == list(range(_KEYS.index(str(key)), 200, len(_KEYS))), key

    @promise("ordered")
    async def test_a_key_keeps_its_order_over_several_publications_of_several_processes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        processes = [trial.transport, await trial.another_process()]
        for number in range(10):
            await trial.send(trial.envelope(str(number), key="order-1"), transport=processes[number % 2])

        assert bodies(await member.fetch(10)) == [str(number) for number in range(10)]

    async def _two_members(self, trial: Trial) -> list[Member]:
        one, other = trial.lanes[::2], trial.lanes[1::2]
        second = await trial.another_process()
        return [await trial.join(lanes=one), await trial.join(lanes=other, transport=second)]
