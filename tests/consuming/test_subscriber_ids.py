from collections.abc import Callable
from typing import Any

import pytest

from mediator import MediatorApp
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of
from tests.support.proxy import Proxy, Trap


def fails(_handler: object, _event: object) -> None:
    raise LookupError("no such account")


async def ids(app: MediatorApp) -> list[str]:
    return [row.subscriber_id for row in await rows(app, "inbox")]


class TestIds:
    @pytest.mark.parametrize(
        ("name", "attributes", "expected"),
        [
            ("SendWelcomeMail", {}, "mail.send-welcome-mail"),
            ("SendSMSAtNight", {}, "mail.send-sms-at-night"),
            ("Version2Handler", {}, "mail.version2-handler"),
            ("SendMail", {"subscriber_id": "greeter"}, "greeter"),
        ],
    )
    async def test_an_id_is_explicit_or_derived(
        self, make_app: AppFactory, name: str, attributes: dict[str, str], expected: str
    ) -> None:
        app = make_app(module_of("mail", listener(name, writes, **attributes)))

        assert [entry.id for entry in app.registry.subscribers] == [expected]

    async def test_the_same_class_name_in_two_modules_is_two_subscribers(self, make_app: AppFactory) -> None:
        app = make_app(module_of("mail", listener("Send", writes)), module_of("audit", listener("Send", writes)))

        async with app:
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()

            assert sorted(await ids(app)) == ["audit.send", "mail.send"]
            assert len(await effects(app)) == 2


class TestRenaming:
    EVENT = NotedV1(text="x", correlation_id="c")

    async def run(self, app: MediatorApp, *, again: bool = False) -> None:
        async with app:
            if again:
                await app.publish_in_own_transaction(self.EVENT)
            await app.drained()

    async def test_without_an_alias_a_renamed_handler_is_somebody_else(self, make_app: AppFactory) -> None:
        await self.run(make_app(module_of("mail", listener("Send", writes))), again=True)
        app = make_app(module_of("mail", listener("SendMail", writes)))
        await self.run(app, again=True)

        assert app.counters.total("handled") == 1

    async def test_with_an_alias_it_skips_what_it_handled_before(self, make_app: AppFactory) -> None:
        await self.run(make_app(module_of("mail", listener("Send", writes))), again=True)
        app = make_app(module_of("mail", listener("SendMail", writes, aliases=("mail.send",))))
        await self.run(app, again=True)

        assert app.counters.total("handled") == 0
        assert app.counters.total("duplicate_skipped", "mail.send-mail") == 1

    async def test_with_an_alias_it_takes_over_what_was_parked(self, make_app: AppFactory) -> None:
        dies = listener("Send", fails, retry=at_once(2))
        async with make_app(module_of("mail", dies)) as app:
            await app.publish_in_own_transaction(self.EVENT)
            await app.drained()
        app = make_app(module_of("mail", listener("SendMail", writes, aliases=("mail.send",))))
        async with app:
            letters = await app.dead_letters.list(subscriber_id="mail.send-mail")
            await app.dead_letters.replay(*(letter.position for letter in letters))
            await app.drained()

            assert await effects(app) == [("SendMail", "x")]

    @pytest.mark.databases("postgresql", "psycopg", "mariadb")
    @pytest.mark.parametrize("cut", [Proxy.cut_before_commit, Proxy.cut_after_commit])
    async def test_a_start_goes_on_when_taking_over_is_interrupted(
        self, make_app: AppFactory, database_url: str, cut: Callable[..., Trap]
    ) -> None:
        async with make_app(module_of("mail", listener("Send", fails, retry=at_once(1)))) as app:
            await app.publish_in_own_transaction(self.EVENT)
            await app.drained()
        async with Proxy(database_url) as proxy:
            trap = cut(proxy, of="former.event_id")
            renamed = module_of("mail", listener("SendMail", writes, aliases=("mail.send",)))
            async with make_app(renamed, database=proxy.url) as app:
                await trap.happened()
                (letter,) = await app.dead_letters.list()
                assert letter.subscriber_id == "mail.send-mail"

    async def test_another_content_under_an_id_that_the_alias_knows_leaves_no_trace_of_the_new_name(
        self, make_app: AppFactory
    ) -> None:
        await self.run(make_app(module_of("mail", listener("Send", writes))), again=True)
        async with make_app(module_of("mail", listener("SendMail", writes, aliases=("mail.send",)))) as app:
            app.pause("mail.send-mail")
            await app.publish_in_own_transaction(self.EVENT.model_copy(update={"text": "other"}))
            await app.drained()
            app.resume("mail.send-mail")
            await app.publish_in_own_transaction(self.EVENT)
            await app.drained()

            (letter,) = await app.dead_letters.list()
            assert b'"other"' in letter.body
            inbox = [(row.subscriber_id, row.event_id) for row in await rows(app, "inbox")]
            assert ("mail.send-mail", self.EVENT.event_id) not in inbox

    async def test_a_broadcast_handler_keeps_its_past_too(self, make_app: AppFactory) -> None:
        await self.run(make_app(module_of("mail", listener("Send", writes, broadcast=True))), again=True)
        app = make_app(module_of("mail", listener("SendMail", writes, broadcast=True, aliases=("mail.send",))))
        await self.run(app, again=True)

        assert app.counters.total("handled") == 0


class TestBroadcast:
    async def test_every_instance_gets_its_copy_and_the_others_share_one(self, make_app: AppFactory) -> None:
        transport = MemoryTransport()

        def instance(name: str) -> MediatorApp:
            return make_app(
                module_of(
                    "mail",
                    listener("Everywhere", writes, broadcast=True),
                    listener("Once", writes),
                ),
                transport=transport,
                instance=name,
            )

        async with instance("one") as one, instance("two") as two:
            await one.publish_in_own_transaction(NotedV1(text="x"))
            await eventually(lambda: one.counters.total("handled") + two.counters.total("handled") == 3)
            await one.drained()

            assert sorted(await ids(one)) == ["mail.everywhere@one", "mail.everywhere@two", "mail.once"]
            assert one.counters.total("handled", "mail.everywhere@one") == 1
            assert two.counters.total("handled", "mail.everywhere@two") == 1

    async def test_each_instance_tries_its_own_copy_again(self, make_app: AppFactory) -> None:
        transport, attempts = MemoryTransport(), list[str]()

        def fails_at_one(handler: Any, event: NotedV1) -> None:
            attempts.append(handler.context.subscriber_id)
            if attempts.count("mail.everywhere@one") == 1 and attempts[-1] == "mail.everywhere@one":
                raise LookupError("not yet")
            writes(handler, event)

        def instance(name: str) -> MediatorApp:
            everywhere = listener("Everywhere", fails_at_one, broadcast=True, retry=at_once())
            return make_app(module_of("mail", everywhere), transport=transport, instance=name)

        async with instance("one") as one, instance("two") as two:
            await one.publish_in_own_transaction(NotedV1(text="x"))
            await eventually(lambda: one.counters.total("handled") + two.counters.total("handled") == 2)
            await one.drained()

            assert sorted(attempts) == ["mail.everywhere@one"] * 2 + ["mail.everywhere@two"]
            assert two.counters.total("handled", "mail.everywhere@one") == 0

    async def test_in_process_only_the_instance_that_relays_has_a_copy(self, make_app: AppFactory) -> None:
        def instance(name: str) -> MediatorApp:
            return make_app(module_of("mail", listener("Everywhere", writes, broadcast=True)), instance=name)

        # As two processes are: each with a transport of its own.
        async with instance("one") as one, instance("two") as two:
            await one.publish_in_own_transaction(NotedV1(text="x"))
            await eventually(lambda: one.counters.total("handled") + two.counters.total("handled"))
            await one.drained()

            assert len(await ids(one)) == 1

    async def test_a_broadcast_is_handled_once_per_instance(self, make_app: AppFactory) -> None:
        event = NotedV1(text="x", correlation_id="c")

        async with make_app(module_of("mail", listener("Everywhere", writes, broadcast=True))) as app:
            for _ in range(2):
                await app.publish_in_own_transaction(event)
                await app.drained()

            assert await effects(app) == [("Everywhere", "x")]

    async def test_a_broadcast_handler_can_be_paused(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", listener("Everywhere", writes, broadcast=True))) as app:
            app.pause("mail.everywhere")
            await app.publish_in_own_transaction(NotedV1(text="x"))
            await app.drained()
            assert await effects(app) == []

            app.resume("mail.everywhere")
            await app.drained()
            assert await effects(app) == [("Everywhere", "x")]
