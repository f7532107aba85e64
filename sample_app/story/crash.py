"""A process that dies: the shop in a process of its own, killed at a crash point of the toolkit.

The child is killed with SIGKILL by itself, at exactly that place, so nothing is flushed, closed or cleaned up.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from mediator import Runtime
from mediator.testing import kill_at
from sample_app.ordering.application.place_order import PlaceOrder
from sample_app.story.stage import Purchase
from sample_app.wiring import make_shop

__all__ = ["place_order_and_die", "run_child"]

_ROOT = Path(__file__).resolve().parents[2]


async def place_order_and_die(
    database: str, purchase: Purchase, crash_point: str, *, resting: Sequence[str] = ()
) -> int:
    """Place the order in a child process that dies at `crash_point`; gives the child's exit status."""
    order = (str(purchase.customer_id), purchase.sku, str(purchase.quantity))
    what = ("--child", crash_point, *order, *resting)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sample_app", "--database", database, *what, cwd=_ROOT
    )
    return await child.wait()


async def run_child(database: str, crash_point: str, customer_id: str, sku: str, quantity: str, *resting: str) -> None:
    """What the child does until it dies."""
    async with make_shop(database, runtime=Runtime(reached=kill_at(crash_point))) as shop:
        for handler in resting:
            shop.pause(handler)
        await shop.mediator.send(PlaceOrder(UUID(customer_id), sku, int(quantity)))
        await shop.drained()
