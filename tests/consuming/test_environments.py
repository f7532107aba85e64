"""Each deployment handles what is meant for its environment, the main one the rest, and what follows stays there."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mediator import EnvironmentRouting, IntegrationEventHandler, MediatorApp, Outgoing
from mediator.errors import SettingsError
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, listener, rows
from tests.support import AppFactory, Effect, effects, module_of, quick_settings


class Broker(MemoryTransport):
    """One for several deployments."""

    async def close(self) -> None:
        """The others go on."""


def handlers(name: str) -> list[type[IntegrationEventHandler[Any]]]:
    """One that remarks on a note, and one that writes down where the remark was handled and came from."""

    def remarks(_handler: Any, event: NotedV1) -> RemarkedV1:
        return RemarkedV1(text=event.text)

    def tells(handler: Any, event: RemarkedV1) -> None:
        handler.session.add(Effect(what=f"{event.text} in {name}", detail=repr(dict(handler.context.headers))))

    return [listener("Remark", remarks), listener("Tell", tells, RemarkedV1)]


@asynccontextmanager
async def deployments(url: str, **routing: EnvironmentRouting) -> AsyncIterator[list[MediatorApp]]:
    """Applications on one broker, each with a name and tables of its own."""
    broker = Broker()
    await broker.open()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                MediatorApp(
                    f"shop-{name}",
                    modules=[module_of("mail", *handlers(name))],
                    database=url,
                    environment="test",
                    transport=broker,
                    middleware=[routed],
                    schema="create",
                    settings=quick_settings(table_prefix=f"{name}_"),
                )
            )
            for name, routed in routing.items()
        ]


async def say(app: MediatorApp, text: str, *others: MediatorApp, **headers: str) -> None:
    await app.publish_in_own_transaction(Outgoing(NotedV1(text=text), headers=headers))
    for one in (app, *others, app):
        await one.drained()


@pytest.mark.usefixtures("make_app")
async def test_events_stay_in_the_environment_that_they_began_in(database_url: str) -> None:
    main, feature = EnvironmentRouting(others={"feature"}), EnvironmentRouting("feature")
    async with deployments(database_url, main=main, feature=feature) as (shop, trial):
        await say(shop, "ours", trial)
        await say(trial, "theirs", shop)

        assert sorted(await effects(shop)) == [
            ("ours in main", "{}"),
            ("theirs in feature", "{'x-environment': 'feature'}"),
        ]


@pytest.mark.usefixtures("make_app")
async def test_the_main_one_takes_events_of_environments_without_a_deployment(database_url: str) -> None:
    others = {"feature"}
    main, feature = EnvironmentRouting(others=others), EnvironmentRouting("feature")
    async with deployments(database_url, main=main, feature=feature) as (shop, trial):
        await say(shop, "orphan", trial, **{"x-environment": "nowhere"})
        others.add("nowhere")
        await say(shop, "no orphan any more", trial, **{"x-environment": "nowhere"})

        # Its consequences still belong there.
        assert await effects(shop) == [("orphan in main", "{'x-environment': 'nowhere'}")]


async def test_what_is_meant_for_others_counts_as_handled(make_app: AppFactory) -> None:
    app = make_app(module_of("mail", *handlers("trial")), middleware=[EnvironmentRouting("feature")])
    async with app:
        await say(app, "x", **{"x-environment": "other"})

        assert await effects(app) == []
        assert [row.subscriber_id for row in await rows(app, "inbox")] == ["mail.remark"]
        assert app.counters.total("handled", "mail.remark") == 1
        assert not await app.dead_letters.list()


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("wrong", [("", ()), ("feature", {"other"}), (None, "feature")], ids=str)
def test_what_cannot_be_meant_is_refused(wrong: tuple[str | None, Any]) -> None:
    name, others = wrong
    with pytest.raises(SettingsError, match="in the main one"):
        EnvironmentRouting(name, others=others)
