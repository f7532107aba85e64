"""Counters of one process: how often something happened, by name and subject.

    counters.add("duplicate_skipped", "inventory.reserve-stock")
    counters.total("duplicate_skipped")

Names and subjects come from the registry and from this code, never from the wire, so their number stays bounded.
"""

from collections import Counter
from collections.abc import Mapping

__all__ = ["Counters"]


class Counters:
    """Counts since the process started."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, subject: str, amount: int = 1) -> None:
        """Count `amount` more of `name` for `subject` (a subscriber id, a module)."""
        self._counts[name, subject] += amount

    def total(self, name: str, subject: str | None = None) -> int:
        """How often `name` happened, for one subject or for all."""
        if subject is not None:
            return self._counts[name, subject]
        return sum(amount for (counted, _), amount in self._counts.items() if counted == name)

    def snapshot(self) -> Mapping[tuple[str, str], int]:
        """Everything counted so far."""
        return dict(self._counts)
