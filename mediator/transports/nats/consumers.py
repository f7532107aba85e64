"""The consumers of a group: one for each lane, with a number that grows whenever the lane changes hands."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mediator.errors import BrokerError, TransportUnavailableError
from mediator.transports.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from mediator.transports.nats.streams import Streams, differences

__all__ = ["Consumers", "Position", "consumer_names"]

_ACK_WAIT_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Position:
    """A consumer, and how far the one before it had come."""

    lane: int
    consumer: str
    epoch: int
    delivered_before: int
    """Up to where in the stream messages were delivered before."""


async def consumer_names(connection: NatsConnection) -> list[str]:
    """All consumers of the stream; none if there is no stream."""
    names: list[str] = []
    while True:
        try:
            page = await connection.request(f"CONSUMER.NAMES.{connection.address.stream}", {"offset": len(names)})
        except JetStreamError as error:
            if error.code == NOT_FOUND:
                return names
            raise
        found = page.get("consumers") or []
        names.extend(found)
        if not found or len(names) >= page.get("total", 0):
            return names


class Consumers:
    """Makes the consumers of one group, and makes them anew."""

    def __init__(self, connection: NatsConnection, group: str) -> None:
        self.group = group
        self._connection, self._address = connection, connection.address
        self._streams = Streams(connection)

    def missing(self, names: list[str]) -> list[int]:
        """Lanes for which there is none."""
        return [lane for lane in range(self._address.lanes) if not self._address.epochs(self.group, lane, names)]

    async def create(self, lanes: Collection[int]) -> None:
        """Make those of lanes that have none, from now on."""
        start = await self._last() + 1
        for lane in lanes:
            try:
                await self._create(lane, 0, start, at_once=1)
            except JetStreamError as error:
                # Another process may have been quicker, at another moment.
                if self.missing(await consumer_names(self._connection)):
                    what = f"a consumer of group {self.group} was refused ({error})"
                    fix = "Compare the limits of the server and of the account"
                    raise BrokerError(str(self._address), what, fix) from error

    async def backlog(self, names: list[str]) -> int:
        """How many messages are not settled, in all lanes."""
        infos = await asyncio.gather(
            *(
                self._info(lane, epochs[-1])
                for lane in range(self._address.lanes)
                if (epochs := self._address.epochs(self.group, lane, names))
            )
        )
        return sum(int(info["num_pending"]) + int(info["num_ack_pending"]) for info in infos)

    async def renewed(self, lanes: Collection[int], at_once: int) -> dict[int, Position | BaseException]:
        """A new consumer for each of these lanes, or why there is none; `at_once` may be unsettled."""
        names = await consumer_names(self._connection)
        found = await asyncio.gather(*(self._renewed(lane, names, at_once) for lane in lanes), return_exceptions=True)
        for one in found:
            if isinstance(one, TransportUnavailableError):
                raise one
        return dict(zip(lanes, found, strict=True))

    async def _renewed(self, lane: int, names: list[str], at_once: int) -> Position:
        epochs = self._address.epochs(self.group, lane, names)
        if not epochs:
            what = f"group {self.group} has no consumer for lane {lane}, and may have missed something"
            raise BrokerError(str(self._address), what, "Provision it again; find out who deleted it")
        infos = [await self._info(lane, epoch) for epoch in epochs]
        latest = infos[-1]
        start = max(latest["ack_floor"]["stream_seq"] + 1, latest["config"].get("opt_start_seq", 1))
        # A server that lost its last messages gives their numbers again.
        start = min(start, await self._last() + 1)
        epoch = epochs[-1] + 1
        await self._create(lane, epoch, start, at_once)
        # What stays because the server does not answer is deleted by the next owner.
        with suppress(TransportUnavailableError, JetStreamError):
            for old in epochs:
                await self._delete(lane, old)
        delivered = max(info["delivered"]["stream_seq"] for info in infos)
        return Position(lane, self._address.consumer(self.group, lane, epoch), epoch, delivered)

    async def _create(self, lane: int, epoch: int, start: int, at_once: int) -> None:
        wanted = {
            "durable_name": self._address.consumer(self.group, lane, epoch),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT_SECONDS * 10**9,
            "max_deliver": -1,
            "max_ack_pending": at_once,
            "filter_subject": f"{self._address.prefix}.{lane}.>",
            "replay_policy": "instant",
        }
        stream = self._address.stream
        about = {"stream_name": stream, "config": wanted}
        made = await self._connection.request(f"CONSUMER.DURABLE.CREATE.{stream}.{wanted['durable_name']}", about)
        if wrong := differences(wanted, made["config"]):
            what = f"consumer {wanted['durable_name']} was made with {', '.join(wrong)}"
            raise BrokerError(str(self._address), what, "Use a NATS server of version 2.9 or newer")

    async def _info(self, lane: int, epoch: int) -> dict[str, Any]:
        name = self._address.consumer(self.group, lane, epoch)
        return await self._connection.request(f"CONSUMER.INFO.{self._address.stream}.{name}")

    async def _delete(self, lane: int, epoch: int) -> None:
        name = self._address.consumer(self.group, lane, epoch)
        await self._connection.request(f"CONSUMER.DELETE.{self._address.stream}.{name}")

    async def _last(self) -> int:
        """The number of the stream's last message."""
        info = await self._streams.info(self._address.stream)
        if info is None:
            raise BrokerError(str(self._address), f"stream {self._address.stream} is missing", "Provision it again")
        last: int = info["state"]["last_seq"]
        return last
