"""Deprecated events: who publishes one is told once, and every envelope says it.

    ce-deprecated: true                           ce-deprecationfrom: 2026-03-01T00:00:00Z
    ce-deprecationsunset: 2026-09-01T00:00:00Z    ce-replacedby: ordering.order-placed.v2

The first three are the deprecation extension of CloudEvents, which has no name for what takes an event's place. Days
begin in UTC. Before its first day a deprecation is only announced: it stands in the reports.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Final

import structlog

from contracts import Deprecation, IntegrationEvent, Topic, topic_of
from mediator.observability import Counters

__all__ = ["Deprecations"]

log = structlog.get_logger(__name__)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Deprecations:
    """What one process has said about deprecated events."""

    def __init__(self, now: Callable[[], datetime], counters: Counters) -> None:
        self._now, self._counters = now, counters
        self._told: set[tuple[type[IntegrationEvent], bool]] = set()

    def published(self, event_class: type[IntegrationEvent], topic: Topic) -> Mapping[str, str]:
        """Note that an event is published; gives the headers that say so, none for one that is not deprecated."""
        deprecated = topic.deprecated
        if deprecated is None or (today := self._now().date()) < deprecated.since:
            return _NONE
        self._counters.add("deprecated_published", topic.full_type)
        is_over = deprecated.is_over(today)
        if (event_class, is_over) not in self._told:
            self._told.add((event_class, is_over))
            facts = {"type": topic.full_type, "owner": topic.owner, **_facts(deprecated)}
            if is_over:
                log.error("deprecated_event.published_after_sunset", **facts)
            else:
                log.warning("deprecated_event.published", **facts)
        return _headers(deprecated)


def _facts(deprecated: Deprecation) -> Mapping[str, str]:
    found = {"since": str(deprecated.since)}
    if deprecated.sunset is not None:
        found["sunset"] = str(deprecated.sunset)
    if deprecated.replacement is not None:
        found["replacement"] = topic_of(deprecated.replacement).full_type
    return found


def _headers(deprecated: Deprecation) -> Mapping[str, str]:
    found = {"ce-deprecated": "true", "ce-deprecationfrom": _midnight(deprecated.since)}
    if deprecated.sunset is not None:
        found["ce-deprecationsunset"] = _midnight(deprecated.sunset)
    if deprecated.replacement is not None:
        found["ce-replacedby"] = topic_of(deprecated.replacement).full_type
    return found


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
