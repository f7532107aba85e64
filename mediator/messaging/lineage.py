"""Lineage: what belongs together (correlation id) and what directly caused what (causation id).

A command starts a lineage or takes its caller's correlation id; everything that it sets off, in whatever module and
process, carries the same one. For the time of a unit of work both ids are bound to structlog, so that every line that
is logged in it can be found by them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars

__all__ = ["Lineage", "current_lineage", "in_lineage"]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a unit of work comes from."""

    correlation_id: str
    message_id: UUID
    """The command, or the integration event that is handled: what causes all that is published here."""
    cause: str
    """Name of the command, or id of the subscriber."""
    causation_id: str | None = None
    """What caused the message itself."""
    traceparent: str | None = None


_current: ContextVar[Lineage | None] = ContextVar("mediator_lineage", default=None)


def current_lineage() -> Lineage | None:
    """The lineage of the unit of work that this code runs in, if there is one."""
    return _current.get()


@contextmanager
def in_lineage(lineage: Lineage) -> Iterator[None]:
    """Bind `lineage` for a while, and restore what was bound before."""
    before, bound = _current.get(), get_contextvars()
    _current.set(lineage)
    bind_contextvars(correlation_id=lineage.correlation_id, causation_id=str(lineage.message_id))
    try:
        yield
    finally:
        # Not by token: a fixture or a dependency may be closed in another context than it was opened in.
        _current.set(before)
        unbind_contextvars("correlation_id", "causation_id")
        bind_contextvars(**{name: bound[name] for name in ("correlation_id", "causation_id") if name in bound})
