"""Scenario 11: an event that is to come later, unless it is cancelled."""

from datetime import timedelta

from sample_app.inventory.application.holds import CollectGoods, HoldGoods
from sample_app.inventory.application.queries import GetStock
from sample_app.inventory.domain import HoldExpiredError
from sample_app.story.stage import IN_STOCK, Scenario, Stage
from sample_app.wiring import PREFIX

__all__ = ["DELAY"]

A_DAY, A_MOMENT = timedelta(days=1), timedelta(milliseconds=100)
SCHEDULED = f"{PREFIX}outbox where type = 'inventory.hold-expired'"


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        purchase = await stage.set_up(shop)
        stage.tell(f"A {purchase.product} is held for a day, and {purchase.customer} comes for it.")

        hold_id = await shop.mediator.send(HoldGoods(purchase.sku, 1, keep_for=A_DAY))
        await shop.drained(scheduled=False)
        scheduled = await stage.count(SCHEDULED)
        await shop.mediator.send(CollectGoods(hold_id))
        cancelled = await stage.count(SCHEDULED)

        stage.check("the end of the hold waits in the outbox", scheduled, 1)
        stage.check("and is cancelled by who comes in time", cancelled, 0)

        stage.tell("Three more are held for a moment, and nobody comes.")
        late_id = await shop.mediator.send(HoldGoods(purchase.sku, 3, keep_for=A_MOMENT))
        await shop.drained()
        failure = ""
        try:
            await shop.mediator.send(CollectGoods(late_id))
        except (HoldExpiredError, LookupError) as error:
            failure = str(error)

        left = (await shop.mediator.send(GetStock(purchase.sku))).available
        ended = shop.counters.total("handled", "inventory.end-hold")
        stage.check("the end of this hold comes", ended, 1)
        stage.check("the three are on the shelf again, the one is not", left, IN_STOCK - 1)
        stage.check("who comes now is told", failure, f"there is no hold {late_id}")


DELAY = Scenario(
    "An event for later, and its cancellation",
    "The end of a hold is told with a delay, in the transaction in which it begins; no timer has to run.",
    play,
)
