"""Where a NATS server is, and what things are called there.

    nats://user:password@host:4222,other:4222?prefix=mediator&lanes=16&max_age=7&replicas=3

The messages are in one stream, under `{prefix}.{lane}.{topic}`; a second one knows the topics, as
`{prefix}.topics.{topic}`. A consumer is called `{group}-{lane}-{epoch}`.
"""

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from mediator.errors import SettingsError

__all__ = ["NatsAddress"]

_LONGEST_NAME: Final = 200
"""The server takes 255 characters; the lane and the epoch come after a group's name."""
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SPECIAL: Final = re.compile(r"[%*>]")
"""What means something to NATS, or would to the way back."""
_DEFAULT_PORT: Final = 4222
_PARAMETERS: Final = ("prefix", "lanes", "max_age", "replicas")
_MOST_LANES, _MOST_DAYS, _MOST_REPLICAS = 1_024, 3_650, 5


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """A URL, taken apart."""

    scheme: str
    hosts: tuple[str, ...]
    """Each as `host:port`."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    prefix: str = "mediator"
    lanes: int = 16
    max_age_days: int = 7
    """After how many days a message is dropped although a group has not read it; 0: never."""
    replicas: int = 1

    @classmethod
    def of(cls, url: str) -> "NatsAddress":
        """Take a URL apart; raises SettingsError naming what is wrong, and never the password."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        places = tuple(_place(parts, host) for host in hosts.split(","))
        if parts.path not in ("", "/"):
            raise SettingsError("transport", _shown(parts, hosts), f"remove the path {parts.path!r}: NATS has none")
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        given = dict(pairs)
        for name, value in pairs:
            if name not in _PARAMETERS:
                raise SettingsError(f"transport parameter {name}", value, f"there are {', '.join(_PARAMETERS)}")
        prefix = given.get("prefix", "mediator")
        if not _PREFIX.fullmatch(prefix) or len(prefix) > _LONGEST_NAME:
            raise SettingsError("transport parameter prefix", prefix, "use letters, digits, '_', '-', and '.' between")
        return cls(
            scheme=parts.scheme,
            hosts=places,
            user=unquote(user) if login else None,
            password=unquote(password) if colon else None,
            prefix=prefix,
            lanes=_number(given, "lanes", 16, 1, _MOST_LANES),
            max_age_days=_number(given, "max_age", 7, 0, _MOST_DAYS),
            replicas=_number(given, "replicas", 1, 1, _MOST_REPLICAS),
        )

    def __str__(self) -> str:
        """As it may be shown."""
        return f"{self.scheme}://{','.join(self.hosts)}"

    @property
    def servers(self) -> list[str]:
        """What the client connects to; user and password are told apart from that."""
        return [f"{self.scheme}://{host}" for host in self.hosts]

    @property
    def stream(self) -> str:
        """The stream of the messages."""
        return _name(self.prefix)

    @property
    def topics_stream(self) -> str:
        """The stream that knows the topics."""
        return f"{self.stream}-topics"

    def subject(self, lane: int, topic: str) -> str:
        """Where an envelope is published."""
        return f"{self.prefix}.{lane}.{_topic_subject(topic)}"

    def known(self, topic: str) -> str:
        """Where it is written down that a topic was provisioned."""
        return f"{self.prefix}.topics.{_topic_subject(topic)}"

    def topic(self, subject: str) -> str:
        """The topic in a subject of the two kinds above."""
        segments = subject.removeprefix(f"{self.prefix}.").split(".")[1:]
        return ".".join("" if segment == "%" else unquote(segment) for segment in segments)

    @staticmethod
    def consumer(group: str, lane: int, epoch: int) -> str:
        """A group's consumer of a lane."""
        return f"{_name(group)}-{lane}-{epoch}"

    @staticmethod
    def epochs(group: str, lane: int, consumers: list[str]) -> list[int]:
        """Those for which there is a consumer of a group and lane, in order."""
        beginning = f"{_name(group)}-{lane}-"
        found = (name.removeprefix(beginning) for name in consumers if name.startswith(beginning))
        return sorted(int(epoch) for epoch in found if epoch.isdigit())


def _topic_subject(topic: str) -> str:
    """A topic as the end of a subject, where no segment may be empty; `%` alone stands for one that is."""
    return ".".join(_SPECIAL.sub(_percent, segment) or "%" for segment in topic.split("."))


def _percent(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _name(text: str) -> str:
    """As a name of a stream or consumer, where a dot must not be; one that is too long ends with a hash."""
    name = quote(text, safe="").replace("_", "%5F").replace(".", "_")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 33]}-{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _place(parts: SplitResult, host: str) -> str:
    try:
        place = urlsplit(f"//{host}")
        name, port = place.hostname, place.port or _DEFAULT_PORT
    except ValueError:
        name, port = None, 0
    if name is None:
        raise SettingsError("transport", _shown(parts, host), "write it as nats://host:4222, several hosts with commas")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _shown(parts: SplitResult, hosts: str) -> str:
    return f"{parts.scheme}://{hosts}"


def _number(given: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"transport parameter {name}", text, f"use a whole number from {least} to {most}")
    return int(text)
