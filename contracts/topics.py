"""Topics: the stream that an integration event is published to, and its name on the wire.

    @event_topic(Cashier, domain="AppDomain")
    class CashierHiredV1(IntegrationEvent): ...

    topic_of(CashierHiredV1).address("dev")    # dev.appdomain.public.cashiers.v1
    topic_of(CashierHiredV1).type              # appdomain.cashier-hired

An address is `{environment}.{domain}.{public or internal}.{topic}.{version}`, without the last part when the version is
empty. It always tells which environment it belongs to: the environment is one segment, in front, and taken as it is.
Were it cut or lower-cased, `Dev` and `dev` would read each other's events.

The environment is no part of the contract: the same class is published in every one of them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from contracts.deprecation import Deprecation
from contracts.errors import DeprecationError, TopicError
from contracts.events import IntegrationEvent
from contracts.naming import kebab_case, plural, wire_name

__all__ = ["MAX_ADDRESS_LENGTH", "MAX_TYPE_LENGTH", "Topic", "event_topic", "has_topic", "topic_of"]

E = TypeVar("E", bound=IntegrationEvent)

MAX_ADDRESS_LENGTH = 249  # Kafka's; the other brokers allow more

_SEGMENT = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SEGMENTS = re.compile(rf"{_SEGMENT.pattern}(?:\.{_SEGMENT.pattern})*")
_VERSION = re.compile(r"v[1-9][0-9]{0,5}")
MAX_TYPE_LENGTH = 150  # with a version behind it; a wire name longer than that no reader takes
_ATTRIBUTE = "__contract_topic__"


@dataclass(frozen=True, slots=True)
class Topic:
    """Where an integration event is published, in any environment."""

    topic: str
    domain: str
    version: str
    internal: bool
    name: str
    local: bool = False
    owner: str = ""
    """Who answers for the event, such as a team; no part of any address."""
    deprecated: Deprecation | None = None

    def __post_init__(self) -> None:
        _require(_SEGMENT, self.domain, "domain", "use one segment of a-z, 0-9 and single hyphens, such as 'ordering'")
        _require(_SEGMENTS, self.topic, "topic", "use segments of a-z, 0-9 and single hyphens, joined by dots")
        _require(_SEGMENT, self.name, "name", "pass name= with a-z, 0-9 and single hyphens, such as 'order-placed'")
        if self.version:
            _require(_VERSION, self.version, "version", "use 'v' and a number up to 999999, or an empty text for none")
        if self.local and not self.internal:
            raise TopicError("local=True", "what never leaves its application is not public", "pass internal=True too")
        if _VERSION.fullmatch(self.name) or len(self.type) > MAX_TYPE_LENGTH:
            advice = f"pass name= with something that is no version, and at most {MAX_TYPE_LENGTH} characters in all"
            raise TopicError(f"name {self.name!r}", "it cannot be told from a version, or is too long", advice)
        last_segment = self.topic.rpartition(".")[2]
        if _VERSION.fullmatch(last_segment):
            # "payments.v1" without a version and "payments" with "v1" would be one address.
            raise TopicError(f"topic {self.topic!r}", "it ends in a version", f"pass version={last_segment!r} instead")

    @property
    def scope(self) -> str:
        return "internal" if self.internal else "public"

    @property
    def type(self) -> str:
        """The event's name on the wire, the same for all its versions."""
        return f"{self.domain}.{self.name}"

    @property
    def full_type(self) -> str:
        """Type and version, as an envelope names them."""
        return f"{self.type}.{self.version}" if self.version else self.type

    @property
    def version_number(self) -> int:
        """The version as a number; 0 when there is none."""
        return int(self.version[1:] or 0)

    def address(self, environment: str) -> str:
        """Return the topic's name in this environment; no two environments share one."""
        if not _SEGMENT.fullmatch(environment):
            raise TopicError(
                f"environment {environment!r}",
                "it is not a segment of a-z, 0-9 and single hyphens",
                "map it to one explicitly in the host's settings; it is never lower-cased or cut short",
            )
        parts = (environment, self.domain, self.scope, self.topic, self.version)
        address = ".".join(part for part in parts if part)
        if len(address) > MAX_ADDRESS_LENGTH:
            raise TopicError(
                f"address {address!r}",
                f"it has {len(address)} characters, and {MAX_ADDRESS_LENGTH} are allowed",
                "shorten the topic or the domain",
            )
        return address


def event_topic(
    topic: str | type,
    *,
    domain: str,
    version: str = "v1",
    internal: bool = False,
    local: bool = False,
    pluralize: bool = True,
    name: str | None = None,
    owner: str = "",
    deprecated: Deprecation | None = None,
) -> Callable[[type[E]], type[E]]:
    """State the topic of an integration event; a subclass must state its own.

    A text is the topic itself, in lower case. An entity class gives its name in kebab case, in the plural unless
    `pluralize` is false. `name` replaces the wire name, which is the event's class name without suffix and version.
    What is `local` is handled within the application that publishes it, and never goes to a broker. `owner` says who
    answers for the event, and `deprecated` that another takes its place.
    """

    def decorate(event_class: type[E]) -> type[E]:
        _require_event(event_class)
        try:
            stated = Topic(
                topic=_topic_text(topic, pluralize=pluralize),
                domain=domain.lower(),
                version=version.lower(),
                internal=internal,
                local=local,
                name=wire_name(event_class.__name__) if name is None else name,
                owner=owner,
                deprecated=deprecated,
            )
            _check_replacement(event_class, stated)
        except (TopicError, DeprecationError) as error:
            where = f"{event_class.__module__}.{event_class.__qualname__}, {error.where}"
            raise type(error)(where, error.problem, error.advice) from None
        setattr(event_class, _ATTRIBUTE, stated)
        return event_class

    return decorate


def has_topic(event_class: type[IntegrationEvent]) -> bool:
    """Tell whether the class itself states a topic."""
    return _ATTRIBUTE in vars(event_class)


def topic_of(event_class: type[IntegrationEvent]) -> Topic:
    """Return the topic that the class itself states."""
    if not has_topic(event_class):
        raise TopicError(
            f"{event_class.__module__}.{event_class.__qualname__}",
            "it states no topic, and a base class's topic is not inherited",
            'decorate it with @event_topic("…", domain="…")',
        )
    topic: Topic = vars(event_class)[_ATTRIBUTE]
    return topic


def _check_replacement(event_class: type[IntegrationEvent], stated: Topic) -> None:
    replacement = stated.deprecated.replacement if stated.deprecated else None
    if replacement is None:
        return
    where = f"its replacement {replacement.__qualname__}"
    if replacement is event_class:
        raise DeprecationError(where, "it is the event itself", "name the event to use instead")
    if not has_topic(replacement):
        raise DeprecationError(where, "it states no topic", "decorate it with @event_topic, above this class")
    other = topic_of(replacement)
    if other.type == stated.type and other.version_number <= stated.version_number:
        what = f"{other.version or 'no version'} is not newer than {stated.version or 'no version'}"
        raise DeprecationError(where, what, "name a newer version, or another event")


def _topic_text(topic: str | type, *, pluralize: bool) -> str:
    if isinstance(topic, str):
        return topic.lower()
    if isinstance(topic, type):
        kebab = kebab_case(topic.__name__)
        return plural(kebab) if pluralize else kebab
    raise TopicError(f"topic {topic!r}", "it is neither a text nor a class", "pass one of them")


def _require_event(candidate: object) -> None:
    if not (isinstance(candidate, type) and issubclass(candidate, IntegrationEvent)):
        raise TopicError(repr(candidate), "it is not an integration event", "derive it from IntegrationEvent")


def _require(pattern: re.Pattern[str], text: str, what: str, advice: str) -> None:
    if not pattern.fullmatch(text):
        raise TopicError(f"{what} {text!r}", f"it cannot be part of an address as a {what}", advice)
