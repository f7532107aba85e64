"""The two streams: one for the messages, and one that knows which topics were provisioned.

Messages are kept for a time (`limits` with `max_age`). Keeping them until each group has acknowledged them (`interest`)
would free the room sooner and wait for a group that is away for longer, but then to delete a consumer takes the server
some 10 seconds for a million waiting messages, and lanes change hands by deleting consumers.

What the server does not know it may ignore without a word, so its answer is compared with what was asked for.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from mediator.errors import BrokerError, Fault
from mediator.transports.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

__all__ = ["KnownTopics", "Streams", "differences"]

_DAY_NANOSECONDS: Final = 24 * 3600 * 10**9
_SUBJECTS_OVERLAP: Final = 10065
_Config = dict[str, Any]


class Streams:
    """Makes the streams, and looks at them."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection, self._address = connection, connection.address

    async def missing(self, *, create: bool) -> list[str]:
        """Make those that are missing, or name them; raises BrokerError when they are not what is needed."""
        missing = []
        for wanted in (self._messages(), self._topics()):
            found = await self.info(wanted["name"])
            if found is None and create:
                found = await self._create(wanted)
            if found is None:
                missing.append(f"stream {wanted['name']}")
            else:
                self._check_subjects(wanted, found["config"])
        return missing

    async def info(self, name: str, **about: Any) -> _Config | None:
        """What the server says of a stream; None if there is none."""
        try:
            return await self._connection.request(f"STREAM.INFO.{name}", about)
        except JetStreamError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def faults(self) -> list[Fault]:
        """What of the settings of the streams breaks a promise."""
        found: list[Fault] = []
        for wanted in (self._messages(), self._topics()):
            info = await self.info(wanted["name"])
            if info is not None:
                is_cluster = bool(info.get("cluster", {}).get("replicas")) or self._address.replicas > 1
                found.extend(_faults(wanted, info["config"], is_cluster=is_cluster))
        return found

    def _messages(self) -> _Config:
        subjects = [f"{self._address.prefix}.{lane}.>" for lane in range(self._address.lanes)]
        return {
            **self._stream(self._address.stream, subjects),
            "retention": "limits",
            "max_msgs_per_subject": -1,
            "max_age": self._address.max_age_days * _DAY_NANOSECONDS,
        }

    def _topics(self) -> _Config:
        return {
            **self._stream(self._address.topics_stream, [f"{self._address.prefix}.topics.>"]),
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "max_age": 0,
        }

    def _stream(self, name: str, subjects: list[str]) -> _Config:
        return {
            "name": name,
            "subjects": subjects,
            "storage": "file",
            "num_replicas": self._address.replicas,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msg_size": -1,
            "discard": "old",
            "no_ack": False,
        }

    async def _create(self, wanted: _Config) -> _Config:
        try:
            made = await self._connection.request(f"STREAM.CREATE.{wanted['name']}", wanted)
        except JetStreamError as error:
            # Another process may have been quicker, with other parameters.
            found = await self.info(wanted["name"])
            if found is not None:
                return found
            fix = "Compare the limits of the server and of the account"
            if error.number == _SUBJECTS_OVERLAP:
                fix = "Give the transport another ?prefix= in its URL"
            raise BrokerError(str(self._address), f"stream {wanted['name']} was refused ({error})", fix) from error
        if wrong := differences(wanted, made["config"]):
            what = f"stream {wanted['name']} was made with {', '.join(wrong)}"
            raise BrokerError(str(self._address), what, "Use a NATS server of version 2.9 or newer")
        return made

    def _check_subjects(self, wanted: _Config, found: _Config) -> None:
        """The number of lanes is that of the subjects: another one would put keys into other lanes."""
        subjects = found.get("subjects") or []
        if sorted(subjects) == sorted(wanted["subjects"]):
            return
        what = f"stream {wanted['name']} has other subjects: {', '.join(subjects[:3])}"
        fix = "Give the transport another ?prefix= in its URL"
        if all(f"{self._address.prefix}.{lane}.>" in subjects for lane in range(len(subjects))):
            what = f"stream {wanted['name']} has {len(subjects)} lanes, and the URL says {self._address.lanes}"
            fix = f"Use ?lanes={len(subjects)}, or another ?prefix= once everything is handled"
        raise BrokerError(str(self._address), what, fix)


class KnownTopics:
    """Which topics were provisioned, by whomever."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection, self._address = connection, connection.address
        self._known: set[str] = set()

    async def unknown(self, topics: Collection[str]) -> set[str]:
        """Those of `topics` that were not provisioned; looked up again each time, for they may be soon."""
        unknown = set()
        for topic in set(topics) - self._known:
            if await self._is_written_down(topic):
                self._known.add(topic)
            else:
                unknown.add(topic)
        return unknown

    async def write_down(self, topics: Collection[str]) -> None:
        """Make topics known."""
        for topic in sorted(topics):
            await self._connection.store(self._address.known(topic))

    async def _is_written_down(self, topic: str) -> bool:
        about = {"last_by_subj": self._address.known(topic)}
        try:
            await self._connection.request(f"STREAM.MSG.GET.{self._address.topics_stream}", about)
        except JetStreamError as error:
            if error.code == NOT_FOUND and error.number == _NO_MESSAGE_FOUND:
                return False
            raise
        return True


_NO_MESSAGE_FOUND: Final = 10037


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is otherwise than asked for; what has no value is not told."""
    return [
        f"{name} = {found.get(name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value and (value or found.get(name))
    ]


_HARM: Final = {
    "storage": "what is confirmed is lost when the server stops",
    "retention": "messages are dropped that a group has not read, or lanes change hands too slowly",
    "max_age": "messages are dropped after that time (in nanoseconds) although a group has not read them; 0 is never",
    "max_msgs": "messages are dropped although a group has not read them",
    "max_bytes": "messages are dropped although a group has not read them",
    "max_msgs_per_subject": "messages are dropped although a group has not read them",
    "max_msg_size": "larger messages are refused",
    "no_ack": "no publication is ever confirmed",
}


def _faults(wanted: _Config, found: _Config, *, is_cluster: bool) -> Iterator[Fault]:
    for name, harm in _HARM.items():
        value = found.get(name)
        if name in ("max_msgs", "max_bytes") and found.get("discard") == "new":
            continue  # publications are refused, and wait in the outbox
        if value != wanted[name] and (value or wanted[name]):
            where, what = f"stream {wanted['name']}, {name}", f"it is {value!r}: {harm}"
            yield Fault("broker", where, what, f"Set it to {wanted[name]!r}, or say so in the transport's URL")
    if is_cluster and found.get("num_replicas", 1) == 1:
        what = "there is 1 in a cluster: nothing moves while its server is away, and is lost with it"
        yield Fault("broker", f"stream {wanted['name']}, num_replicas", what, "Set it to 3")
