"""Scenario 3: the same message arrives three times at once."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Transport
from sample_app.billing.infrastructure import SandboxGateway
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.notifications.application.queries import GetMails
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["DUPLICATES"]

COPIES = 3
SUBSCRIBERS = (
    "inventory.reserve-stock",
    "billing.open-invoice",
    "billing.capture-payment",
    "ordering.mark-order-paid",
    "notifications.send-receipt",
)
UNCONDITIONAL = ("inventory.reserve-stock", "billing.open-invoice", "notifications.send-receipt")
"""They need nothing but their event. The others may be early, fail, and be right when they are tried again."""


class StutteringTransport:
    """Hands out every envelope three times; a broker may do that, it promises "at least once"."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    async def publish(self, batch: Sequence[Envelope]) -> AsyncIterator[tuple[Envelope, Exception | None]]:
        """One outcome for each envelope: that of its last copy."""
        copies = Counter[int]()
        async for envelope, error in self.transport.publish([envelope for envelope in batch for _ in range(COPIES)]):
            copies[id(envelope)] += 1
            if copies[id(envelope)] == COPIES:
                yield envelope, error


async def play(stage: Stage) -> None:
    gateway = SandboxGateway()
    async with (
        stage.way() as transport,
        stage.shop(transport=StutteringTransport(transport), gateway=gateway) as shop,
    ):
        purchase = await stage.set_up(shop)
        stage.tell(f"{purchase}.")

        order_id = await shop.mediator.send(purchase.order)
        await shop.drained()

        stock = await shop.mediator.send(GetStock(purchase.sku))
        mails = await shop.mediator.send(GetMails(order_id))
        handled = [shop.counters.total("handled", subscriber) for subscriber in SUBSCRIBERS]
        skipped = [shop.counters.total("duplicate_skipped", subscriber) for subscriber in SUBSCRIBERS]
        stage.check("every handler handled its event once", handled, [1] * len(SUBSCRIBERS))
        stage.check("and skipped two duplicates of it", skipped, [COPIES - 1] * len(SUBSCRIBERS))
        failed = [shop.counters.total("failed", subscriber) for subscriber in UNCONDITIONAL]
        stage.check("without running into anything", failed, [0] * len(UNCONDITIONAL))
        stage.check("the stock is reserved once", stock, StockView(IN_STOCK - purchase.quantity, reservations=1))
        stage.check("the customer is charged once", len(gateway.charges), 1)
        stage.check("and gets one mail", len(mails), 1)


DUPLICATES = Scenario(
    "The same message, three times",
    "The broker stutters: every envelope of the order reaches every module as three copies, at the same moment.",
    play,
)
