"""Scenario 14: a handler kills the process at an event, each time that it is started again."""

import signal
from uuid import uuid4

from sample_app.notifications.application.queries import GetMails
from sample_app.story.crash import post_mails_and_die
from sample_app.story.stage import Scenario, Stage

__all__ = ["CRASH_LOOP"]

HANDLER = "notifications.send-receipt"
ATTEMPTS = 3
DIED = f"the process died in attempt {ATTEMPTS} of {ATTEMPTS}"


async def play(stage: Stage) -> None:
    async with stage.shop() as shop:
        deadly, harmless = await stage.set_up(shop), await stage.set_up(shop)
        stage.tell(f"{deadly}. {harmless}. The first receipt kills the process, which is started again and again.")
        correlation_id = f"checkout-{uuid4()}"

        shop.pause(HANDLER)
        deadly_id = await shop.mediator.send(deadly.order, correlation_id=correlation_id)
        harmless_id = await shop.mediator.send(harmless.order)
        await shop.drained()

    statuses = [await post_mails_and_die(stage, deadly_id) for _ in range(ATTEMPTS + 1)]

    fate = [-signal.SIGKILL] * ATTEMPTS + [0]
    stage.check("the process is killed in each of three attempts, and lives the fourth time", statuses, fate)

    async with stage.shop() as shop:
        letters = await shop.dead_letters.list(subscriber_id=HANDLER, correlation_id=correlation_id)
        mails = [len(await shop.mediator.send(GetMails(order_id))) for order_id in (deadly_id, harmless_id)]
        stage.check("the event is a dead letter, which says why", [one.error for one in letters], [DIED])
        stage.check("the other receipt is sent, once", mails, [0, 1])

        stage.tell("Somebody mends the mailbox and replays the dead letter.")
        await shop.dead_letters.replay(*(one.position for one in letters), reason="mailbox mended")
        await shop.drained()

        mails = [len(await shop.mediator.send(GetMails(order_id))) for order_id in (deadly_id, harmless_id)]
        stage.check("both are sent, once", mails, [1, 1])


CRASH_LOOP = Scenario(
    "A handler that kills the process again and again",
    "Attempts are counted before they begin, so an event that kills has its last one as well, and others go on.",
    play,
)
