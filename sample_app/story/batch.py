"""Scenario 13: many events share a transaction."""

from uuid import uuid4

from mediator import Runtime
from sample_app.contracts import PieceScannedV1
from sample_app.inventory.application.queries import GetStock, StockView
from sample_app.inventory.domain import UnknownSkuError
from sample_app.story.stage import IN_STOCK, Scenario, Stage

__all__ = ["BATCH"]

HANDLER = "inventory.shelve-pieces"
PIECES = 100


class Commits:
    """Counts the transactions in which events were handled."""

    count = 0

    def reached(self, place: str) -> None:
        self.count += place == "inbox.after_commit"


async def play(stage: Stage) -> None:
    commits = Commits()
    async with stage.shop(runtime=Runtime(reached=commits.reached)) as shop:
        purchase = await stage.set_up(shop)
        stage.tell(f"A pallet with {PIECES} × {purchase.product} comes through the gate.")

        await shop.publish_in_own_transaction(*(PieceScannedV1(sku=purchase.sku) for _ in range(PIECES)))
        await shop.drained()

        stock = await shop.mediator.send(GetStock(purchase.sku))
        stage.check("every scan was handled", shop.counters.total("handled", HANDLER), PIECES)
        stage.check("in fewer transactions than there were scans", commits.count < PIECES, expected=True)
        stage.check("every piece is on the shelf, once", stock, StockView(IN_STOCK + PIECES, reservations=0))

        unknown = PieceScannedV1(sku=f"unknown-{uuid4().hex[:12]}")
        stage.tell(f"On the next one, with {PIECES} more, lies a piece that nobody knows.")
        scans = [PieceScannedV1(sku=purchase.sku) for _ in range(PIECES)]
        await shop.publish_in_own_transaction(*scans[1:], unknown, scans[0])
        await shop.drained()

        letters = await shop.dead_letters.list(subscriber_id=HANDLER, event_id=unknown.event_id)
        stock = await shop.mediator.send(GetStock(purchase.sku))
        reason = [str(UnknownSkuError(unknown.sku))]
        stage.check("its scan alone is a dead letter", [letter.error for letter in letters], reason)
        stage.check("the others are not held up", stock, StockView(IN_STOCK + 2 * PIECES, reservations=0))


BATCH = Scenario(
    "Many events in one transaction",
    "Scans that wait are handled together; when one of them fails, the others are handled without it.",
    play,
)
