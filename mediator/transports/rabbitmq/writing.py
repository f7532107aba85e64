"""Writes many messages to a channel at once; the client would spend a task and several turns of the loop on each.

This is what `Channel.basic_publish` of aiormq 7 does, with its public parts, and one write for all of them.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiormq.abc import AbstractChannel, ChannelFrame
from aiormq.channel import Channel

from mediator.transports.rabbitmq.messages import Message

__all__ = ["USUAL_FRAME", "can_be_written_at_once", "frame_bytes_of", "portions", "written_at_once"]

USUAL_FRAME: Final = 131_072
"""What a broker takes in a frame unless it says otherwise."""
_WRITTEN_AT_ONCE: Final = 100
_WRITTEN_BYTES: Final = 256 * 1024
_PARTS: Final = ("lock", "delivery_tag", "confirmations", "write_queue", "create_future", "number")


def can_be_written_at_once(channel: AbstractChannel) -> bool:
    """Whether the channel has the parts that this needs: another version of the client may not."""
    return isinstance(channel, Channel) and all(hasattr(channel, part) for part in _PARTS)


async def written_at_once(channel: Channel, messages: Sequence[Message], exchange: str) -> Sequence[Future[Any]]:
    """Write them; gives what will be confirmed, in the same order."""
    frame_bytes = frame_bytes_of(channel)
    frames = [frame for message in messages for frame in message.frames(exchange, frame_bytes)]
    # Futures of the channel: they fail when it ends.
    written, confirmations = channel.create_future(), [channel.create_future() for _ in messages]
    frame = ChannelFrame.marshall(channel.number, frames, written)
    try:
        async with channel.lock:
            # Nothing may come between: the broker counts messages as they arrive.
            first, channel.delivery_tag = channel.delivery_tag + 1, channel.delivery_tag + len(messages)
            channel.confirmations.update(enumerate(confirmations, first))
            try:
                await channel.write_queue.put(frame)
            except BaseException:
                channel.delivery_tag = first - 1
                for tag in range(first, first + len(messages)):
                    channel.confirmations.pop(tag, None)
                raise
    except BaseException:
        for future in (written, *confirmations):
            future.cancel()
        raise
    # Where nobody reads, nothing more is written. If the connection is lost, the confirmations tell.
    await asyncio.wait([written])
    return confirmations


def frame_bytes_of(channel: AbstractChannel) -> int:
    """How much a frame of this channel may have."""
    return channel.connection.connection_tune.frame_max or USUAL_FRAME


def portions(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """What is written at once: not so much that many large bodies are in memory twice."""
    portion: list[Message] = []
    size = 0
    for message in messages:
        portion.append(message)
        size += len(message.body)
        if len(portion) == _WRITTEN_AT_ONCE or size >= _WRITTEN_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
