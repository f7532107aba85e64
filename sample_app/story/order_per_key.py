"""Scenario 10: what fails holds back what follows in its key, and nothing else."""

from uuid import uuid4

from sample_app.inventory.application.queries import GetLabels
from sample_app.inventory.application.receive_goods import ReceiveGoods
from sample_app.inventory.domain import UnknownSkuError
from sample_app.ordering.application.offers import ChangePrice, OfferProduct
from sample_app.story.stage import IN_STOCK, Scenario, Stage
from sample_app.wiring import PREFIX

__all__ = ["ORDER_PER_KEY"]

HANDLER = "inventory.print-label"


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        neighbour = await stage.set_up(shop)
        sku = f"novelty-{uuid4().hex[:12]}"
        await shop.mediator.send(OfferProduct(sku, 1_500, "EUR"))
        stage.tell(
            f"A novelty is offered that inventory does not know yet. Its price changes three times, and that of the "
            f"{neighbour.product} as well."
        )

        correlation_id = f"prices-{uuid4()}"
        for price in (1_400, 1_300, 1_200):
            await shop.mediator.send(ChangePrice(sku, price), correlation_id=correlation_id)
            await shop.mediator.send(ChangePrice(neighbour.sku, price))
        await shop.drained()

        letters = await shop.dead_letters.list(subscriber_id=HANDLER, correlation_id=correlation_id)
        behind = "status = 'blocked' and subscriber_id = :handler and partition_key = :sku"
        waiting = await stage.count(f"{PREFIX}parked where {behind}", handler=HANDLER, sku=sku)
        labels = await shop.mediator.send(GetLabels(neighbour.sku))
        reason = [str(UnknownSkuError(sku))]
        stage.check("the label for the first price cannot be printed", [letter.error for letter in letters], reason)
        stage.check("the two that follow wait behind it", waiting, 2)
        stage.check("no label is printed", await shop.mediator.send(GetLabels(sku)), [])
        stage.check("the other product has its labels", labels, PRINTED)

        await shop.mediator.send(ReceiveGoods(sku, IN_STOCK))
        stage.tell("The novelty arrives, and somebody replays the dead letter.")
        await shop.dead_letters.replay(*(letter.position for letter in letters), reason="it has arrived")
        await shop.drained()

        waiting = await stage.count(f"{PREFIX}parked where {behind}", handler=HANDLER, sku=sku)
        stage.check("the three labels are printed in their order", await shop.mediator.send(GetLabels(sku)), PRINTED)
        stage.check("nothing waits any more", waiting, 0)


PRINTED = ["14.00 EUR", "13.00 EUR", "12.00 EUR"]

ORDER_PER_KEY = Scenario(
    "Order per key, and an event that fails",
    "A former price must not cover a later one: what follows in the key waits, until somebody mends the cause.",
    play,
)
