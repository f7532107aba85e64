"""With a broker, what it still has for the application's groups is pending as well."""

from collections.abc import Collection, Mapping
from datetime import timedelta

import pytest

from mediator.errors import DrainTimeoutError, TransportUnavailableError
from tests.consuming.notes import NotedV1, listener, writes
from tests.support import AppFactory, module_of
from tests.support.transports import ScriptedTransport


class Broker(ScriptedTransport):
    """Has so many envelopes for each group, one fewer whenever it is asked."""

    def __init__(self, waiting: int) -> None:
        super().__init__()
        self.waiting = waiting
        self.is_away = False
        self.asked: set[str] = set()

    async def backlog(self, groups: Collection[str]) -> Mapping[str, int]:
        self.asked.update(groups)
        if self.is_away:
            raise TransportUnavailableError(self.name, "gone")
        self.waiting = max(self.waiting - 1, 0)
        return dict.fromkeys(groups, self.waiting)


async def test_it_waits_until_the_broker_has_nothing_for_its_groups(make_app: AppFactory) -> None:
    broker = Broker(20)
    async with make_app(module_of("mail", listener("Send", writes)), transport=broker) as app:
        await app.publish_in_own_transaction(NotedV1())
        await app.drained()

        assert broker.waiting == 0
        assert broker.asked == {"shop.mail"}


async def test_what_is_left_is_named(make_app: AppFactory) -> None:
    broker = Broker(10**9)
    async with make_app(module_of("mail", listener("Send", writes)), transport=broker) as app:
        with pytest.raises(DrainTimeoutError, match="events under way"):
            await app.drained(timedelta(milliseconds=200))

        broker.is_away = True
        with pytest.raises(DrainTimeoutError, match="brokers that do not answer"):
            await app.drained(timedelta(milliseconds=200))
