"""What a subclass of the suite says about its transport, and what makes a test of a promise."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import Any, ClassVar, TypeVar

import pytest

from mediator.messaging.transport import Transport
from mediator.testing.conformance.trial import Trial

__all__ = ["Promises", "promise"]

S = TypeVar("S", bound="Promises")

_CUTS = "break_connection"


def promise(*needs: str) -> Callable[[Callable[[S, Trial], Awaitable[None]]], Callable[[S], Awaitable[None]]]:
    """A test that gets a trial of the transport; collected where the transport has all that it needs."""

    def decorate(test: Callable[[S, Trial], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
        @wraps(test)
        async def run(suite: S) -> None:
            async with Trial(suite) as trial, asyncio.timeout(suite.longest.total_seconds()):
                await test(suite, trial)

        # pytest would take the trial for a fixture.
        del run.__wrapped__
        run.needs = needs  # type: ignore[attr-defined]
        marked: Callable[[S], Awaitable[None]] = pytest.mark.asyncio(run)
        return marked

    return decorate


class Promises:
    """How to make the transport, and what it does not have."""

    wildcards: ClassVar[bool] = True
    """Subscribes to patterns of topics."""
    ordered: ClassVar[bool] = True
    """Keeps the order of a key."""
    orders_across_topics: ClassVar[bool] = True
    """Keeps the order of a key also when its events have different topics."""
    has_lanes: ClassVar[bool] = True
    """Who of a group has which lane is settled outside of the transport."""
    durable_groups: ClassVar[bool] = True
    """A group stays on the broker when its last member is gone, and has to be provisioned."""
    refuses_unknown_topics: ClassVar[bool] = True
    """Nothing is published to a topic that was not provisioned."""
    separates_applications: ClassVar[bool] = True
    """Two applications on one broker do not see each other."""
    settles_singly: ClassVar[bool] = True
    """Remembers of each delivery whether it is settled, and not only up to which one all of them are."""
    redelivers_after_break: ClassVar[bool] = True
    """What was unsettled when the connection was lost comes again; otherwise it can still be settled."""
    confirms_after_acknowledgement: ClassVar[bool] = False
    """Confirms an envelope when every group has acknowledged it, and not when it is stored."""

    patience: ClassVar[timedelta] = timedelta(seconds=20)
    """How long the suite waits for what must come; it ends as soon as it is there."""
    quiet: ClassVar[timedelta] = timedelta(milliseconds=300)
    """How long it looks for what must not come."""
    longest: ClassVar[timedelta] = timedelta(seconds=90)
    """How long a test may take."""

    def make_transport(self, application: str) -> Transport:  # noqa: ARG002 - for subclasses
        """A new transport that is not open yet.

        `application` is different in each test and fit for a URL: transports with the same one stand for the processes
        of one application, those with another one must not notice it.
        """
        raise TypeError(f"{type(self).__qualname__} has to say how its transport is made: define make_transport")

    async def clean_up(self, application: str) -> None:
        """Remove what was made on the broker for an application; all transports are closed by then."""

    async def break_connection(self, transport: Transport) -> None:
        """Cut the connections of an open transport, or stop and start its broker; optional."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        promises = {
            name: value
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if hasattr(value, "needs")
        }
        for name, value in promises.items():
            if name not in vars(cls):
                setattr(cls, name, value if all(map(cls._has, value.needs)) else None)

    @classmethod
    def _has(cls, feature: str) -> bool:
        if feature == _CUTS:
            return cls.break_connection is not Promises.break_connection
        return bool(getattr(cls, feature))
