"""Deprecation: an event that is still published, until when, and what takes its place.

    @event_topic("orders", domain="ordering", deprecated=Deprecation(date(2026, 3, 1), date(2026, 9, 1), OrderPlacedV2))
    class OrderPlacedV1(IntegrationEvent): ...

Nothing stops working on its account, not even after the sunset: who publishes the event is told in the log, who
receives it by a header, and the reports list it.
"""

from dataclasses import dataclass
from datetime import date, datetime

from contracts.errors import DeprecationError
from contracts.events import IntegrationEvent

__all__ = ["Deprecation"]


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Since when an event should not be used any more, until when it is published, and what to use instead."""

    since: date
    sunset: date | None = None
    """The first day on which nobody may count on it."""
    replacement: type[IntegrationEvent] | None = None

    def __post_init__(self) -> None:
        for name, value in (("since", self.since), ("sunset", self.sunset)):
            if isinstance(value, datetime) or not isinstance(value, date | None):
                raise DeprecationError("deprecation", f"{name}={value!r} is no day", "pass a datetime.date")
        if not isinstance(self.since, date):
            raise DeprecationError("deprecation", "it has no beginning", "pass since=date(...)")
        if self.sunset is not None and self.sunset <= self.since:
            what = f"its sunset {self.sunset} is not after its beginning {self.since}"
            raise DeprecationError("deprecation", what, "give readers time between the two")
        if self.replacement is not None and not _is_event(self.replacement):
            what = f"its replacement {self.replacement!r} is no integration event"
            raise DeprecationError("deprecation", what, "pass the class of the event to use instead")

    def is_over(self, day: date) -> bool:
        """Whether the sunset has come by this day."""
        return self.sunset is not None and day >= self.sunset


def _is_event(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, IntegrationEvent)
