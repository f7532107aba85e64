"""Scenario 7: a handler fails for good, until somebody mends the cause."""

from uuid import uuid4

from sample_app.billing.application.payment_gateway import Charge, MerchantAccountMissingError
from sample_app.billing.application.queries import GetInvoice
from sample_app.billing.infrastructure import SandboxGateway
from sample_app.notifications.application.queries import GetMails
from sample_app.ordering.application.queries import GetOrders
from sample_app.story.stage import Scenario, Stage

__all__ = ["DEAD_LETTER"]

HANDLER = "billing.capture-payment"
REASON = str(MerchantAccountMissingError("CHF"))


class CountingGateway(SandboxGateway):
    """Counts how often it is asked."""

    asked = 0

    async def charge(self, amount: int, currency: str, *, idempotency_key: str) -> Charge:
        """Charge as the sandbox does."""
        self.asked += 1
        return await super().charge(amount, currency, idempotency_key=idempotency_key)


async def play(stage: Stage) -> None:
    gateway = CountingGateway()
    async with stage.shop(gateway=gateway) as shop:
        purchase = await stage.set_up(shop, currency="CHF")
        stage.tell(f"{purchase}, and we have no merchant account in that currency.")
        correlation_id = f"checkout-{uuid4()}"

        order_id = await shop.mediator.send(purchase.order, correlation_id=correlation_id)
        await shop.drained()

        letters = await shop.dead_letters.list(subscriber_id=HANDLER)
        mine = [letter for letter in letters if letter.correlation_id == correlation_id]
        unpaid = await shop.mediator.send(GetOrders(purchase.customer_id))
        traced = ["await self.gateway.charge(" in (letter.traceback or "") for letter in mine]
        stage.check("it was tried once, and not again", gateway.asked, 1)
        stage.check("the dead letter names the reason", [letter.error for letter in mine], [REASON])
        stage.check("and the line, by its traceback", traced, [True])
        stage.check("the order waits as reserved", [order.status for order in unpaid], ["reserved"])

        gateway.open_account("CHF")
        stage.tell("Somebody opens the account and replays the dead letter.")
        replayed = await shop.dead_letters.replay(*(letter.position for letter in mine), reason="account opened")
        await shop.drained()

        left = await shop.dead_letters.list(subscriber_id=HANDLER)
        orders = await shop.mediator.send(GetOrders(purchase.customer_id))
        invoice = await shop.mediator.send(GetInvoice(order_id))
        mails = await shop.mediator.send(GetMails(order_id))
        stage.check("one delivery was replayed", replayed, 1)
        stage.check("no dead letter of it is left", [one for one in left if one.correlation_id == correlation_id], [])
        stage.check("the payment is captured once", (invoice.status, len(gateway.charges)), ("paid", 1))
        stage.check(
            "the order is paid, and told of once", ([order.status for order in orders], len(mails)), (["paid"], 1)
        )


DEAD_LETTER = Scenario(
    "A handler fails for good",
    "Trying again cannot help, so the delivery is kept as a dead letter, for a person.",
    play,
)
