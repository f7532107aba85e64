"""Upcasters: they turn the data of an older version into that of a newer one, so that handlers know only the newest.

    @upcaster(OrderPlacedV1, OrderPlacedV2)
    def add_currency(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "EUR"}

The decorator only marks the function; nothing is registered at import. The host finds upcasters as it finds handlers,
and checks the chains for gaps, cycles and duplicates. Versions belong together when they have the same wire type.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from contracts.errors import UpcasterError
from contracts.events import IntegrationEvent
from contracts.topics import topic_of

__all__ = ["Upcast", "Upcaster", "upcaster"]

Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Upcaster:
    """Leads from the data of `source` to that of `target`."""

    source: type[IntegrationEvent]
    target: type[IntegrationEvent]
    function: Upcast

    def __post_init__(self) -> None:
        source, target = topic_of(self.source), topic_of(self.target)
        where = f"upcaster from {self.source.__qualname__} to {self.target.__qualname__}"
        if source.type != target.type:
            raise UpcasterError(
                where,
                f"{source.type} and {target.type} are different events",
                "upcast between versions of one event, or give both the same domain and name=",
            )
        if source.version_number >= target.version_number:
            raise UpcasterError(
                where,
                f"{source.version or 'no version'} is not older than {target.version or 'no version'}",
                "lead from the older version to the newer one",
            )
        if inspect.iscoroutinefunction(self.function):
            raise UpcasterError(where, "it is async, and data is read without waiting", "write a plain `def`")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return self.function(data)


def upcaster(from_: type[IntegrationEvent], to: type[IntegrationEvent]) -> Callable[[Upcast], Upcaster]:
    """Mark a function as the way from one version of an event to a newer one."""

    def decorate(function: Upcast) -> Upcaster:
        return Upcaster(from_, to, function)

    return decorate
