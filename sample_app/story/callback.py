"""Scenario 12: a question, and an answer that goes to who asked."""

from uuid import uuid4

from sample_app.ordering.application.promotions import ANSWERS, PromoteProduct
from sample_app.story.happy_path import events_of
from sample_app.story.stage import Scenario, Stage
from sample_app.wiring import PREFIX

__all__ = ["CALLBACK"]


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        plenty, scarce = await stage.set_up(shop), await stage.set_up(shop)
        await shop.mediator.send(scarce.order)
        await shop.drained()
        stage.tell(f"Ordering would praise a {plenty.product}, and a {scarce.product} of which some are sold already.")
        correlation_id = f"front-page-{uuid4()}"

        for purchase in (plenty, scarce):
            await shop.mediator.send(PromoteProduct(purchase.sku), correlation_id=correlation_id)
        await shop.drained()

        trees = await shop.lineage(correlation_id)
        answers = f"{PREFIX}sent where type = 'inventory.stock-told' and correlation_id = :id"
        told = await stage.count(answers, id=correlation_id)
        at_callback = await stage.count(f"{answers} and topic = :topic", id=correlation_id, topic=ANSWERS)
        praised = [
            await stage.count("ordering_promotion where sku = :sku", sku=purchase.sku) for purchase in (plenty, scarce)
        ]
        stage.check("each question caused its answer", list(events_of(trees)), ASKED_AND_TOLD * 2)
        stage.check("the answers went where the questions said, and nowhere else", (at_callback, told), (2, 2))
        stage.check("the one that is there in plenty is on the front page, the other is not", praised, [1, 0])


ASKED_AND_TOLD = ["inventory.stock-asked-for.v1", "inventory.stock-told.v1"]

CALLBACK = Scenario(
    "A question and its answer",
    "Ordering asks inventory what is there, and names a callback; inventory's handler returns the answer.",
    play,
)
