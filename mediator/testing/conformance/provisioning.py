"""What `provision` makes on the broker, and that nothing else makes anything there."""

import pytest

from mediator.errors import BrokerError
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, INVOICES, ORDERS, STOCK, Trial, bodies

__all__ = ["ProvisioningPromises"]


class ProvisioningPromises(Promises):
    """Tests of provisioning."""

    @promise("durable_groups")
    async def test_a_group_misses_nothing_that_is_published_before_its_first_member_comes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        await trial.send(*trial.numbered(5, keys=["order-1"]))

        member = await trial.join(transport=await trial.another_process())

        assert bodies(await member.fetch(5)) == ["0", "1", "2", "3", "4"]
        await member.fetch_nothing()

    @promise("durable_groups")
    async def test_a_group_misses_nothing_while_all_its_members_are_away(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(trial.envelope("1"))
        await member.acknowledge(*await member.fetch(1))
        await member.close()

        await trial.send(trial.envelope("2"))

        assert bodies(await (await trial.join()).fetch(1)) == ["2"]

    @promise("durable_groups")
    async def test_a_group_that_is_made_later_disturbs_nobody(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(4, keys=["order-1"]))
        first, second = await member.fetch(2)
        await member.acknowledge(first)

        await (await trial.another_process()).provision([ORDERS, INVOICES], {STOCK: [ORDERS, INVOICES]})
        await trial.send(trial.envelope("4", key="order-1"))

        assert bodies(await member.fetch(3)) == ["2", "3", "4"]
        await member.acknowledge(second)
        await member.fetch_nothing()
        assert bodies(await (await trial.join(STOCK)).fetch_all())[-1:] == ["4"]

    @promise("durable_groups")
    async def test_provisioning_again_changes_nothing(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(4, keys=["order-1"]))
        first, second = await member.fetch(2)
        await member.acknowledge(first)

        await trial.provision(BILLING)
        rest = await member.fetch(2)
        await member.close()
        await trial.provision(BILLING)

        assert bodies(rest) == ["2", "3"]
        next_member = await trial.join()
        assert bodies(await next_member.fetch(3)) == bodies([second, *rest])
        await next_member.fetch_nothing()

    @promise("durable_groups")
    async def test_a_group_that_listens_to_more_gets_more_and_loses_nothing(self, trial: Trial) -> None:
        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS]})
        await trial.send(trial.envelope("1"))

        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS, INVOICES]})
        await trial.send(trial.envelope("2", topic=INVOICES))

        assert sorted(bodies(await (await trial.join()).fetch(2))) == ["1", "2"]

    @promise("durable_groups")
    async def test_topics_and_groups_of_others_stay_as_they_are(self, trial: Trial) -> None:
        await trial.transport.provision([ORDERS], {BILLING: [ORDERS]})
        await (await trial.another_process()).provision([INVOICES], {STOCK: [INVOICES]})

        await trial.send(trial.envelope("1"), trial.envelope("2", topic=INVOICES))

        assert bodies(await (await trial.join(BILLING, [ORDERS])).fetch(1)) == ["1"]
        assert bodies(await (await trial.join(STOCK, [INVOICES])).fetch(1)) == ["2"]

    @promise("durable_groups", "refuses_unknown_topics")
    async def test_looking_only_names_all_that_is_missing_and_makes_nothing(self, trial: Trial) -> None:
        for _ in range(2):
            with pytest.raises(BrokerError) as missing:
                await trial.transport.provision([ORDERS], {BILLING: [ORDERS]}, create=False)
            assert ORDERS in str(missing.value)
            assert BILLING in str(missing.value)

        await trial.provision(BILLING)
        with pytest.raises(BrokerError) as missing:
            await trial.transport.provision([ORDERS], {BILLING: [ORDERS], STOCK: [ORDERS]}, create=False)
        assert STOCK in str(missing.value)
        assert BILLING not in str(missing.value)
        assert ORDERS not in str(missing.value).replace(f"{STOCK} to {ORDERS}", "")

    @promise()
    async def test_looking_only_passes_when_all_is_there(self, trial: Trial) -> None:
        await trial.provision(BILLING, STOCK)

        await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS], STOCK: [ORDERS]}, create=False)
        await (await trial.another_process()).provision([ORDERS], {}, create=False)

    @promise("durable_groups")
    async def test_a_group_that_was_not_provisioned_cannot_be_joined(self, trial: Trial) -> None:
        await trial.provision(BILLING)

        with pytest.raises(BrokerError, match=STOCK):
            await trial.transport.subscribe(STOCK, [ORDERS], 10)

    @promise()
    async def test_long_names_work(self, trial: Trial) -> None:
        topic, other = ("test.shop.public.".ljust(248, "o") + last for last in "ab")
        group, neighbour = (f"{'g' * 99}{last}" for last in "ab")
        await trial.transport.provision([topic, other], {group: [topic], neighbour: [other]})
        first, second = await trial.join(group, [topic]), await trial.join(neighbour, [other])

        await trial.send(trial.envelope("1", topic=topic), trial.envelope("2", topic=other))

        for member, body, address in ((first, "1", topic), (second, "2", other)):
            (delivery,) = await member.fetch(1)
            assert (delivery.body.decode(), delivery.topic) == (body, address)
            await member.fetch_nothing()

    @promise("separates_applications")
    async def test_two_applications_on_one_broker_do_not_see_each_other(self, trial: Trial) -> None:
        neighbour = trial.new_application()
        other = await trial.open(neighbour)
        await trial.provision(BILLING)
        await other.provision([ORDERS], {BILLING: [ORDERS]})
        ours, theirs = await trial.join(), await trial.join(topics=[ORDERS], transport=other)

        await trial.send(trial.envelope("ours"))
        await trial.send(trial.envelope("theirs"), transport=other)

        for member, body in ((ours, "ours"), (theirs, "theirs")):
            found = await member.fetch(1)
            assert bodies(found) == [body]
            await member.acknowledge(*found)
            await member.fetch_nothing()
