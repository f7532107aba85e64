"""Domain events: something that happened inside a module, in the module's own words.

    @dataclass(frozen=True)
    class OrderPlaced(DomainEvent):
        order_id: UUID
        total: Decimal

They never leave the module by themselves: other modules learn of them through a converter.
"""

__all__ = ["DomainEvent"]


class DomainEvent:
    """Base of every domain event; make subclasses frozen dataclasses."""

    __slots__ = ()
