"""What it costs to build a handler with three dependencies: plain calls, a compiled plan, the injector."""

from collections.abc import Callable, Sequence
from typing import Any

from injector import Injector, inject

from mediator.hosting.injection import Plans
from tests.benchmarks.measuring import Scale, Table, Way, measure

__all__ = ["run"]


class Clock:
    """Needs nothing."""


class Prices:
    """Needs one thing."""

    @inject
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class Stock:
    """Needs one thing."""

    @inject
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class Handler:
    """Has three dependencies, two of which have one themselves."""

    @inject
    def __init__(self, clock: Clock, prices: Prices, stock: Stock) -> None:
        self.clock, self.prices, self.stock = clock, prices, stock


async def run(scale: Scale) -> Sequence[Table]:
    """Build the handler again and again."""
    source = Injector([])
    build = Plans(source).for_class(Handler).build
    ways = {
        "plain calls": _again(lambda: Handler(Clock(), Prices(Clock()), Stock(Clock()))),
        "compiled plan": _again(lambda: build(None)),
        "Injector.get": _again(lambda: source.get(Handler)),
    }
    return [await measure("Building a handler with three dependencies", ways, 2_000, scale)]


def _again(call: Callable[[], Any]) -> Way:
    async def way(times: int) -> None:
        for _ in range(times):
            call()

    return way
