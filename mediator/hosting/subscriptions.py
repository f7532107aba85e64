"""Subscriptions: which topics each handler listens to, as its class says or as the application is configured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from contracts import IntegrationEvent
from mediator.errors import Fault
from mediator.messaging.patterns import wrong_with
from mediator.messaging.registry import Registry, SubscriberEntry

__all__ = ["check_topics", "configured", "in_environment", "with_topics"]


def configured(
    entries: Iterable[SubscriberEntry], subscriptions: Mapping[str, Sequence[str]], environment: str
) -> list[SubscriberEntry]:
    """The subscribers with the topics that the configuration, or else their class, gives them."""
    return [
        replace(entry, topics=in_environment(subscriptions.get(entry.id, entry.topics), environment))
        for entry in entries
    ]


def with_topics(
    registry: Registry, entry: SubscriberEntry, topics: Sequence[str]
) -> tuple[SubscriberEntry, list[Fault]]:
    """A subscriber with more topics than it has, and what is wrong with them."""
    more = in_environment(topics, registry.environment)
    if more:
        entry = replace(entry, topics=tuple(dict.fromkeys((*sorted(registry.topics_of(entry)), *more))))
    return entry, list(check_topics([entry], {}))


def in_environment(topics: Iterable[str], environment: str) -> tuple[str, ...]:
    """The topics with the name of the environment where they leave a place for it."""
    return tuple(topic.replace("{environment}", environment) for topic in topics)


def check_topics(entries: Sequence[SubscriberEntry], subscriptions: Mapping[str, Sequence[str]]) -> Iterable[Fault]:
    """What is wrong with the topics of these subscribers."""
    for unknown in subscriptions.keys() - {entry.id for entry in entries}:
        known = ", ".join(entry.id for entry in entries) or "no handler"
        what = f"no handler has the subscriber id {unknown!r}"
        yield Fault("subscription", "MediatorApp(subscriptions=...)", what, f"This application has {known}")
    for entry in entries:
        place = f"{entry.handler_class.__module__}.{entry.handler_class.__qualname__}"
        for topic in entry.topics:
            if (wrong := wrong_with(topic)) is not None:
                fix = "Use a full address; `*` stands for one whole segment, `#` for any number of them"
                yield Fault("topic", place, f"it cannot listen to {topic!r}: {wrong}", fix)
        if IntegrationEvent in entry.events and not entry.topics:
            what = "it takes every integration event, and no topics say from where"
            yield Fault("topic", place, what, 'Set topics, such as ("{environment}.ordering.#",)')
