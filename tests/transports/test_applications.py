"""Applications over each transport: what processes share, and what each of them gets."""

from collections import Counter
from typing import Any

import pytest

from tests.consuming.notes import NotedV1, eventually, listener
from tests.support import AppFactory, module_of
from tests.support.brokers import BrokerPlace

pytestmark = pytest.mark.databases("postgresql")
KEYS = [f"account-{number}" for number in range(12)]


async def test_every_instance_gets_a_broadcast(make_app: AppFactory, broker: BrokerPlace) -> None:
    heard: dict[str, list[str]] = {"one": [], "two": []}

    def instance(name: str) -> Any:
        hear = listener("Hear", lambda _, event: heard[name].append(event.text), broadcast=True)
        return make_app(module_of("mail", hear), transport=broker.url, instance=name)

    async with instance("one") as one, instance("two"):
        await one.publish_in_own_transaction(*(NotedV1(account=key, text=key) for key in KEYS))
        await eventually(lambda: all(len(texts) == len(KEYS) for texts in heard.values()))

    assert sorted(heard["one"]) == sorted(heard["two"]) == sorted(KEYS)


async def test_processes_share_the_events_of_a_module_and_keep_the_order_of_each_key(
    make_app: AppFactory, broker: BrokerPlace
) -> None:
    handled: list[tuple[str, str, int]] = []

    def process(name: str) -> Any:
        def book(_handler: Any, event: NotedV1) -> None:
            handled.append((name, event.account, int(event.text)))

        return make_app(module_of("mail", listener("Book", book, ordering="key")), transport=broker.url)

    async with process("one") as one, process("two") as two:
        # Both have lanes before anything is published: who comes first would take all there is otherwise.
        shares = [consumer._share for app in (one, two) for consumer in app._running.consumers]
        await eventually(lambda: all(share is not None and share._taken for share in shares))
        for number in range(20):
            await one.publish_in_own_transaction(*(NotedV1(account=key, text=str(number)) for key in KEYS))
        await one.drained()
        await two.drained()

    assert Counter(key for _, key, _ in handled) == dict.fromkeys(KEYS, 20)
    for key in KEYS:
        assert [number for _, account, number in handled if account == key] == list(range(20)), key
    assert {name for name, _, _ in handled} == {"one", "two"}
