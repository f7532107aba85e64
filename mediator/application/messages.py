"""Commands and queries: what a use case is asked, and the type of its answer.

    @dataclass(frozen=True)
    class PlaceOrder(Command[UUID]):
        sku: str

`await mediator.send(PlaceOrder("KB-01"))` is then known to give a UUID.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mediator.application.converters import Publishable

__all__ = ["Command", "Query", "StreamQuery", "WithEvents"]

R_co = TypeVar("R_co", covariant=True)


class Command(Generic[R_co]):
    """Asks for a change; its handler runs in a unit of work and gives an `R`."""


class Query(Generic[R_co]):
    """Asks for an answer and changes nothing; its handler reads in a transaction that cannot write."""


class StreamQuery(Generic[R_co]):
    """Asks for answers that come one by one: `async for row in mediator.stream(query)`."""


@dataclass(frozen=True, slots=True, init=False)
class WithEvents(Generic[R_co]):
    """A command handler's result together with integration events to publish in the same transaction.

    return WithEvents(order.id, OrderPlacedV1(order_id=order.id, ...))
    """

    result: R_co
    events: "tuple[Publishable, ...]"

    def __init__(self, result: R_co, *events: "Publishable") -> None:
        object.__setattr__(self, "result", result)
        object.__setattr__(self, "events", events)
