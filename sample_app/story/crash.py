"""A process that dies: the shop in a process of its own, which kills itself.

With SIGKILL, and at exactly one place, so nothing is flushed, closed or cleaned up.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Runtime
from mediator.testing import kill_at
from sample_app.notifications.domain import Mail
from sample_app.notifications.infrastructure import SqlMailbox
from sample_app.ordering.application.place_order import PlaceOrder
from sample_app.story.stage import Purchase, Stage

__all__ = ["place_order_and_die", "post_mails_and_die", "run_child"]

_ROOT = Path(__file__).resolve().parents[2]


async def place_order_and_die(
    stage: Stage, purchase: Purchase, crash_point: str, *, resting: Sequence[str] = ()
) -> int:
    """Place the order in a child process that dies at a crash point of the toolkit; gives the child's exit status."""
    order = (str(purchase.customer_id), purchase.sku, str(purchase.quantity))
    return await _child(stage, "order", crash_point, *order, *resting)


async def post_mails_and_die(stage: Stage, order_id: UUID) -> int:
    """Do what is pending, in a child process that dies at the mail about an order; gives the child's exit status."""
    return await _child(stage, "mails", str(order_id))


async def run_child(stage: Stage, task: str, *arguments: str) -> None:
    """What the child does until it dies."""
    if task == "order":
        await _place_order(stage, *arguments)
    else:
        await _post_mails(stage, *arguments)


async def _child(stage: Stage, *task: str) -> int:
    what = ("--database", stage.database, "--transport", stage.transport, "--child", *task)
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "sample_app", *what, cwd=_ROOT)
    return await child.wait()


async def _place_order(
    stage: Stage, crash_point: str, customer_id: str, sku: str, quantity: str, *resting: str
) -> None:
    async with stage.shop(runtime=Runtime(reached=kill_at(crash_point))) as shop:
        for handler in resting:
            shop.pause(handler)
        await shop.mediator.send(PlaceOrder(UUID(customer_id), sku, int(quantity)))
        await shop.drained()


class _DeadlyMailbox(SqlMailbox):
    """Takes the process with it at the mail about one order."""

    def __init__(self, session: AsyncSession, *, order_id: UUID) -> None:
        super().__init__(session)
        self.order_id = order_id

    def put(self, mail: Mail) -> None:
        if mail.order_id == self.order_id:
            os.kill(os.getpid(), signal.SIGKILL)
        super().put(mail)


async def _post_mails(stage: Stage, order_id: str) -> None:
    async with stage.shop(mailbox=partial(_DeadlyMailbox, order_id=UUID(order_id))) as shop:
        await shop.drained()
