"""A lane that is consumed from: a channel of its own, what was received over it, and how settlements are written."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError

from mediator.messaging.transport import Delivery, Settlement

__all__ = ["Lane"]

_TELL_SECONDS: Final = 5.0
_NO_TAG: Final = 1 << 64
_LOST: Final = (AMQPError, OSError, RuntimeError, TimeoutError)


@dataclass(eq=False)
class Lane:
    """One lane, from the opening of its channel to its end."""

    number: int
    epoch: int
    channel: AbstractChannel
    unsettled: set[int] = field(default_factory=set)
    """The tags of all that was received and not settled; what was given back stays among them."""
    fetched: dict[Delivery, int] = field(default_factory=dict)
    is_over: bool = False
    """Whether nothing more of it is fetched."""
    is_settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether all that was fetched is settled; looked at when it is given up."""

    async def tell(self, settlements: Mapping[int, Settlement]) -> bool:
        """Write them, as few times as possible; False when they were not written in time, as good as never said."""
        rejected = {tag for tag, settlement in settlements.items() if settlement is Settlement.REJECT}
        acknowledged = {tag for tag, settlement in settlements.items() if settlement is Settlement.ACK}
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                for tag in rejected:
                    await self.channel.basic_nack(tag, requeue=False, wait=False)
                self.unsettled -= rejected
                # All before the first that stays unsettled are acknowledged by the last one's number.
                stays = min(self.unsettled - acknowledged, default=_NO_TAG)
                before = {tag for tag in acknowledged if tag < stays}
                if before:
                    await self.channel.basic_ack(max(before), multiple=True, wait=False)
                for tag in acknowledged - before:
                    await self.channel.basic_ack(tag, wait=False)
                self.unsettled -= acknowledged
        except _LOST:
            return False
        return True
