"""The socket below the client: one that can be let go of, and that makes what cannot be read readable.

AMQP says that short texts are UTF-8, and the broker takes and hands on whatever bytes somebody sent. The client ends
the connection when it meets such a message, and would meet it again as the first one after every reconnection. So
once that has happened, every frame is looked at: of a message that cannot be read, the properties and headers are
taken out, or the bytes of its routing key that are no ASCII replaced. Its body arrives as it is.
"""

import struct
from asyncio import StreamReader, StreamWriter
from typing import Any, Final, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp.constants import FRAME_HEADER, FRAME_METHOD
from pamqp.exceptions import PAMQPException
from pamqp.frame import unmarshal

__all__ = ["Wire"]

_DELIVER: Final = bytes((0, 60, 0, 60))
_BEFORE_FLAGS, _FLAGS = 12, 2
_NUMBERS_OF_DELIVERY: Final = 9


class Wire(TransportFactory):
    """Makes the sockets of one connection, one after the other."""

    def __init__(self, scheme: str) -> None:
        self._factory = TLSTransportFactory() if scheme == "amqps" else TCPTransportFactory()
        self._writer: StreamWriter | None = None
        self.is_careful = False
        """Whether every frame is looked at before the client sees it, from the next socket on."""

    async def create(self, url: Any, **options: Any) -> tuple[StreamReader, StreamWriter]:
        """Connect."""
        reader, self._writer = await self._factory.create(url, **options)
        return cast(StreamReader, _CarefulReader(reader)) if self.is_careful else reader, self._writer

    def abort(self) -> None:
        """Let go of it, whatever is still to be said: the client waits for an answer first."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


class _CarefulReader:
    """Reads frames as the client does: their kind, their channel and length, their content."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader, self._head = reader, b""
        self._part = 0

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    async def readexactly(self, count: int) -> bytes:
        data = await self._reader.readexactly(count)
        if self._part < len(("kind", "channel and length")):
            self._head += data
            self._part += 1
            return data
        head, self._head, self._part = self._head, b"", 0
        return data if _is_readable(head + data) else _repaired(head[0], data)


def _is_readable(frame: bytes) -> bool:
    try:
        unmarshal(frame)
    except (PAMQPException, ValueError, LookupError, ArithmeticError, TypeError, RecursionError, struct.error):
        return False
    return True


def _repaired(kind: int, data: bytes) -> bytes:
    if kind == FRAME_HEADER:
        # No flag, so nothing of what follows is a property.
        return data[:_BEFORE_FLAGS] + bytes(_FLAGS) + data[_BEFORE_FLAGS + _FLAGS :]
    if kind == FRAME_METHOD and data.startswith(_DELIVER):
        # The tag of the consumer, numbers, the exchange, the routing key, the end of the frame.
        exchange = len(_DELIVER) + 1 + data[len(_DELIVER)] + _NUMBERS_OF_DELIVERY
        key = exchange + 1 + data[exchange] + 1
        text = data[key:-1].decode("ascii", errors="replace").replace("\N{REPLACEMENT CHARACTER}", "?")
        return data[:key] + text.encode() + data[-1:]
    return data
