import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts import partition_key_of
from mediator import DeadLetter, ForeignSettings, MediatorApp, RetryPolicy, Runtime
from mediator.errors import OperationRefusedError, PublishRefusedError, UsageError
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery
from mediator.storage.parked import SENDING_SIDE
from mediator.transports import MemoryTransport
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, eventually, listener, rows, writes
from tests.operations.letters import Repairable, dying, positions
from tests.support import AppFactory, effects, module_of, quick_settings
from tests.support.databases import execute


class TestLooking:
    async def test_a_letter_holds_all_that_a_person_needs(self, make_app: AppFactory) -> None:
        event = NotedV1(account="42", text="7", correlation_id="request-7")

        async with make_app(module_of("mail", dying(Repairable()))) as app:
            await app.publish_in_own_transaction(event)
            await app.drained()
            (letter,) = await app.dead_letters.list()

        assert (letter.subscriber_id, letter.event_id, letter.status) == ("mail.send", event.event_id, "dead")
        assert (letter.reason, letter.attempts, letter.error) == ("failed", 1, "account 7 is closed")
        assert letter.topic == "test.bank.public.notes.v1"
        assert letter.correlation_id == "request-7"
        assert letter.partition_key is not None
        assert NotedV1.model_validate_json(letter.body) == event
        assert letter.headers["ce-id"] == str(event.event_id)
        assert letter.traceback is not None
        assert "in __call__" in letter.traceback
        assert letter.parked_at.tzinfo is not None
        assert letter.parked_at <= letter.died_at

    async def test_filters(self, make_app: AppFactory) -> None:
        events = [NotedV1(text=str(number)) for number in range(3)]
        mail = module_of("mail", dying(Repairable()), dying(Repairable("other"), "Count"))

        async with make_app(mail) as app:
            await app.publish_in_own_transaction(*events)
            await app.drained()
            letters = app.dead_letters
            every = await letters.list()

            assert len(every) == 6
            assert [letter.position for letter in every] == sorted(letter.position for letter in every)
            assert len(await letters.list(limit=2)) == 2
            assert {one.subscriber_id for one in await letters.list(subscriber_id="mail.count")} == {"mail.count"}
            assert len(await letters.list(event_id=events[1].event_id)) == 2
            assert len(await letters.list(event_id=events[1].event_id, subscriber_id="mail.send")) == 1
            assert len(await letters.list(fingerprint=every[0].fingerprint)) == 3
            assert await letters.list(event_id=uuid4()) == []
            assert await letters.list(status="discarded") == []

    async def test_equal_errors_are_one_group(self, make_app: AppFactory) -> None:
        mail = module_of("mail", dying(Repairable()), dying(Repairable("other"), "Count"))

        async with make_app(mail) as app:
            await app.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(3)))
            await app.drained()
            app.pause("mail.count")
            await app.publish_in_own_transaction(NotedV1(text="3"))
            await app.drained()
            groups = await app.dead_letters.groups()

        assert [(group.subscriber_id, group.error_type, group.count) for group in groups] == [
            ("mail.send", "builtins.LookupError", 4),
            ("mail.count", "builtins.LookupError", 3),
        ]
        assert groups[0].fingerprint != groups[1].fingerprint
        assert groups[0].error == "account 0 is closed"


class TestReplay:
    async def test_one(self, make_app: AppFactory) -> None:
        repairable, other = Repairable(), Repairable()
        other.broken = False

        async with make_app(module_of("mail", dying(repairable), listener("Count", other))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"), NotedV1(text="2"))
            await app.drained()
            repairable.broken = False
            first, second = await positions(app)

            assert await app.dead_letters.replay(first) == 1
            await app.drained()

            assert await positions(app) == [second]
            assert sorted(await effects(app)) == [("Count", "1"), ("Count", "2"), ("Send", "1")]
            assert other.calls == 2

    async def test_many(self, make_app: AppFactory) -> None:
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(5)))
            await app.drained()
            repairable.broken = False

            assert await app.dead_letters.replay(*await positions(app)) == 5
            await app.drained()

            assert sorted(detail for _, detail in await effects(app)) == list("01234")

    async def test_a_group(self, make_app: AppFactory) -> None:
        one, other = Repairable(), Repairable("other")

        async with make_app(module_of("mail", dying(one), dying(other, "Count"))) as app:
            await app.publish_in_own_transaction(*(NotedV1(text=str(number)) for number in range(3)))
            await app.drained()
            one.broken = other.broken = False
            group = next(one for one in await app.dead_letters.groups() if one.subscriber_id == "mail.count")

            assert await app.dead_letters.replay_group(group.fingerprint) == 3
            await app.drained()

            assert sorted(await effects(app)) == [("Count", "0"), ("Count", "1"), ("Count", "2")]
            assert {letter.subscriber_id for letter in await app.dead_letters.list()} == {"mail.send"}

    async def test_it_counts_attempts_anew_and_may_die_again(self, make_app: AppFactory) -> None:
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable, retry=at_once(3)))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            for _ in range(2):
                await app.dead_letters.replay(*await positions(app))
                await app.drained()

            assert repairable.calls == 9
            (letter,) = await app.dead_letters.list()
            assert letter.attempts == 3

    async def test_it_survives_a_restart(self, make_app: AppFactory) -> None:
        repairable = Repairable()
        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            app.pause("mail.send")
            await app.dead_letters.replay(*await positions(app))
        repairable.broken = False
        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.drained()

            assert await effects(app) == [("Send", "1")]

    async def test_replaying_at_once_from_two_sides_is_one_replay(self, make_app: AppFactory) -> None:
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            repairable.broken = False
            (position,) = await positions(app)
            outcomes = await asyncio.gather(
                *(app.dead_letters.replay(position) for _ in range(2)), return_exceptions=True
            )
            await app.drained()

            assert {type(outcome) for outcome in outcomes} == {int, OperationRefusedError}
            assert await effects(app) == [("Send", "1")]


class TestRefusals:
    @pytest.mark.parametrize("action", ["replay", "discard", "restore", "edit_and_replay"])
    async def test_an_unknown_position(self, make_app: AppFactory, action: str) -> None:
        options: dict[str, Any] = {"reason": "test"}
        arguments: list[Any] = [99, {}] if action == "edit_and_replay" else [99]

        async with make_app(
            module_of("mail", dying(Repairable())), settings=quick_settings(allow_edited_replay=True)
        ) as app:
            with pytest.raises(OperationRefusedError) as caught:
                await getattr(app.dead_letters, action)(*arguments, **options)

        assert f"{action.replace('_', ' ')} of dead letter 99 refused: there is none with the status" in str(
            caught.value
        )
        assert "list them again" in str(caught.value)

    async def test_more_positions_than_a_statement_has_parameters(self, make_app: AppFactory) -> None:
        count = 300_000  # SQLite takes a quarter of a million where a distribution raised its limit

        async with make_app(module_of("mail", dying(Repairable()))) as app:
            with pytest.raises(OperationRefusedError, match=f", {count} refused"):
                await app.dead_letters.replay(*range(1, count + 1))

    async def test_one_unknown_position_refuses_all_of_them(self, make_app: AppFactory) -> None:
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app)
            with pytest.raises(OperationRefusedError, match="dead letter 98, 99"):
                await app.dead_letters.replay(position, 99, 98)
            await app.drained()

            assert repairable.calls == 1
            assert await positions(app) == [position]
            assert await rows(app, "audit") == []

    async def test_a_discarded_letter_is_not_replayed(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", dying(Repairable()))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app)
            await app.dead_letters.discard(position, reason="test")

            with pytest.raises(OperationRefusedError, match="none with the status 'dead'"):
                await app.dead_letters.replay(position)

    async def test_beyond_the_reach_of_deduplication_it_needs_force(self, make_app: AppFactory) -> None:
        repairable, later = Repairable(), [timedelta(0)]
        runtime = Runtime(now=lambda: datetime.now(UTC) + later[0])

        async with make_app(module_of("mail", dying(repairable)), runtime=runtime) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            repairable.broken = False
            (position,) = await positions(app)
            later[0] = timedelta(days=31)
            with pytest.raises(OperationRefusedError) as caught:
                await app.dead_letters.replay(position)
            assert "it is 31 days old and deduplication reaches back 30 days" in str(caught.value)
            assert "force=True" in str(caught.value)
            with pytest.raises(OperationRefusedError):
                await app.dead_letters.replay_group((await app.dead_letters.groups())[0].fingerprint)

            assert await app.dead_letters.replay(position, force=True) == 1
            await app.drained()
            assert await effects(app) == [("Send", "1")]


class TestDiscarding:
    async def test_discard_and_restore(self, make_app: AppFactory) -> None:
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app)

            assert await app.dead_letters.discard(position, reason="was a test") == 1
            assert await positions(app) == []
            assert await positions(app, status="discarded") == [position]
            assert await app.dead_letters.groups() == []

            assert await app.dead_letters.restore(position) == 1
            repairable.broken = False
            await app.dead_letters.replay(position)
            await app.drained()
            assert await effects(app) == [("Send", "1")]

    @pytest.mark.parametrize("action", ["discard", "restore", "edit_and_replay"])
    async def test_age_counts_from_the_decision(self, make_app: AppFactory, database_url: str, action: str) -> None:
        settings = quick_settings(retention={"dead": timedelta(days=1)}, allow_edited_replay=True)

        async with make_app(module_of("mail", dying(Repairable())), settings=settings) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app)
            if action == "restore":
                await app.dead_letters.discard(position, reason="test")
            await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET died_at = 1")
            arguments: list[Any] = [position, {"text": "2"}] if action == "edit_and_replay" else [position]
            await getattr(app.dead_letters, action)(*arguments, reason="test")
            await app.clean()

            assert position in await positions(app, status="dead" if action == "restore" else "discarded")

    async def test_what_was_discarded_stays_handled_for_deduplication(self, make_app: AppFactory) -> None:
        event = NotedV1(text="1", correlation_id="c")
        repairable = Repairable()

        async with make_app(module_of("mail", dying(repairable))) as app:
            await app.publish_in_own_transaction(event)
            await app.drained()
            await app.dead_letters.discard(*await positions(app), reason="test")
            await app.publish_in_own_transaction(event)
            await app.drained()

            assert repairable.calls == 1


class TestEditing:
    async def fail(self, app: MediatorApp, text: str = "1") -> int:
        await app.publish_in_own_transaction(NotedV1(text=text))
        await app.drained()
        (position,) = await positions(app)
        return position

    async def test_it_is_switched_off_by_default(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", dying(Repairable()))) as app:
            position = await self.fail(app)
            with pytest.raises(OperationRefusedError, match=r"switched off.*allow_edited_replay=True"):
                await app.dead_letters.edit_and_replay(position, {"text": "2"}, reason="typo")

    async def test_it_is_handled_as_a_new_event_that_names_the_old_one(self, make_app: AppFactory) -> None:
        contexts: list[Any] = []

        def react(handler: Any, event: NotedV1) -> None:
            if event.text == "1":
                raise LookupError("closed")
            contexts.append(handler.context)
            writes(handler, event)

        async with make_app(module_of("mail", dying(react)), settings=quick_settings(allow_edited_replay=True)) as app:
            position = await self.fail(app)
            (letter,) = await app.dead_letters.list()
            identity = await app.dead_letters.edit_and_replay(position, {"text": "2"}, reason="typo", actor="Ada")
            await app.drained()

            assert await effects(app) == [("Send", "2")]
            assert [context.message_id for context in contexts] == [identity]
            assert contexts[0].headers["edited-from"] == str(letter.event_id)
            assert contexts[0].correlation_id == letter.correlation_id
            assert await positions(app, status="discarded") == [position]
            (entry,) = await rows(app, "audit")
            assert (entry.action, entry.actor, entry.reason, entry.detail) == (
                "edit and replay",
                "Ada",
                "typo",
                str(identity),
            )

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"text": 5}, "text: Input should be a valid string"),
            ({"text": float("nan")}, "not JSON compliant"),
            ({"text": object()}, "not JSON serializable"),
            ({"occurred_on": "yesterday"}, "occurred_on"),
            ({"text": "\0"}, "NUL"),
        ],
        ids=["type", "nan", "object", "time", "nul"],
    )
    async def test_values_that_the_contract_forbids(
        self, make_app: AppFactory, changes: dict[str, object], problem: str
    ) -> None:
        async with make_app(
            module_of("mail", dying(Repairable())), settings=quick_settings(allow_edited_replay=True)
        ) as app:
            position = await self.fail(app)
            with pytest.raises(OperationRefusedError) as caught:
                await app.dead_letters.edit_and_replay(position, changes, reason="typo")

            assert problem in str(caught.value)
            assert await positions(app) == [position]
            assert await rows(app, "audit") == []

    async def test_a_field_that_the_contract_does_not_know(self, make_app: AppFactory) -> None:
        async with make_app(
            module_of("mail", dying(Repairable())), settings=quick_settings(allow_edited_replay=True)
        ) as app:
            position = await self.fail(app)
            with pytest.raises(OperationRefusedError, match="txet"):
                await app.dead_letters.edit_and_replay(position, {"txet": "2"}, reason="typo")

    async def test_an_event_never_travels_under_the_key_of_another(self, make_app: AppFactory) -> None:
        keys: list[str | None] = []

        def react(handler: Any, event: NotedV1) -> None:
            if event.account == "wrong":
                raise LookupError("closed")
            keys.append(handler.context.partition_key)

        async with make_app(
            module_of("mail", dying(react, ordering="key")), settings=quick_settings(allow_edited_replay=True)
        ) as app:
            await app.publish_in_own_transaction(NotedV1(account="wrong"))
            await app.drained()
            (position,) = await positions(app)
            with suppress(OperationRefusedError):
                await app.dead_letters.edit_and_replay(position, {"account": "right"}, reason="typo")
            await app.drained()

            assert partition_key_of(NotedV1(account="wrong")) not in keys


class TestAudit:
    async def test_every_deed_is_recorded(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", dying(Repairable()))) as app:
            event = NotedV1(text="1")
            await app.publish_in_own_transaction(event)
            await app.drained()
            (position,) = await positions(app)
            await app.dead_letters.discard(position, reason="not needed", actor="Ada")
            await app.dead_letters.restore(position, reason="needed", actor="Bob")
            await app.dead_letters.replay(position, actor="Cy")

            entries = await rows(app, "audit")

        subject = f"mail.send {event.event_id}"
        assert [(one.actor, one.action, one.subject, one.reason) for one in entries] == [
            ("Ada", "discard", subject, "not needed"),
            ("Bob", "restore", subject, "needed"),
            ("Cy", "replay", subject, None),
        ]

    async def test_the_trail_is_read_newest_first(self, make_app: AppFactory) -> None:
        async with make_app(module_of("mail", dying(Repairable()))) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app)
            await app.dead_letters.discard(position, reason="not needed", actor="Ada")
            await app.dead_letters.restore(position, reason="needed", actor="Bob")

            entries = await app.dead_letters.audit()
            assert [(one.actor, one.action, one.reason) for one in entries] == [
                ("Bob", "restore", "needed"),
                ("Ada", "discard", "not needed"),
            ]
            assert await app.dead_letters.audit(limit=1) == entries[:1]
            assert all(one.at.tzinfo is not None for one in entries)


@pytest.mark.parametrize(
    ("name", "deed"),
    [
        ("replay", lambda app: app.dead_letters.replay(1)),
        ("replay", lambda app: app.dead_letters.replay_group("no such")),
        ("discard", lambda app: app.dead_letters.discard(1, reason="x")),
        ("restore", lambda app: app.dead_letters.restore(1)),
        ("edit_and_replay", lambda app: app.dead_letters.edit_and_replay(1, {}, reason="x")),
        ("clean", lambda app: app.clean()),
    ],
)
async def test_inside_a_unit_of_work_operations_are_refused_at_once(
    make_app: AppFactory, name: str, deed: Callable[[MediatorApp], Any]
) -> None:
    settings = quick_settings(allow_edited_replay=True)
    async with make_app(module_of("mail", dying(Repairable())), settings=settings) as app:
        await app.publish_in_own_transaction(NotedV1(text="1"))
        await app.drained()
        async with app.unit_of_work():
            with pytest.raises(UsageError, match=rf"{name}\(\) inside a unit of work"):
                await deed(app)

        assert len(await app.dead_letters.list()) == 1


class TestHook:
    async def test_it_is_called_after_the_letter_is_stored(self, make_app: AppFactory) -> None:
        told: list[DeadLetter] = []
        stored: list[int] = []

        async def hook(letter: DeadLetter) -> None:
            told.append(letter)
            stored.extend(await positions(app))

        app = make_app(module_of("mail", dying(Repairable())), on_dead_letter=hook)
        async with app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            await eventually(lambda: stored)

        assert [(letter.subscriber_id, letter.error) for letter in told] == [("mail.send", "account 1 is closed")]
        assert stored == [told[0].position]

    async def test_it_may_be_a_plain_function(self, make_app: AppFactory) -> None:
        told: list[DeadLetter] = []

        async with make_app(module_of("mail", dying(Repairable())), on_dead_letter=told.append) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            await eventually(lambda: told)

        assert [letter.error for letter in told] == ["account 1 is closed"]

    async def test_a_failing_hook_does_no_harm(self, make_app: AppFactory) -> None:
        calls: list[int] = []

        def hook(letter: DeadLetter) -> None:
            calls.append(1)
            raise ConnectionError("chat is away")

        async with make_app(module_of("mail", dying(Repairable())), on_dead_letter=hook) as app:
            for text in ("1", "2"):
                await app.publish_in_own_transaction(NotedV1(text=text))
                await app.drained()

            assert len(calls) == 2
            assert len(await positions(app)) == 2
            assert app.counters.total("died") == 2
            assert app.counters.total("duplicate_skipped") == 0
            assert await rows(app, "outbox") == []

    async def test_it_is_called_again_when_a_replay_dies(self, make_app: AppFactory) -> None:
        told: list[DeadLetter] = []

        async with make_app(module_of("mail", dying(Repairable())), on_dead_letter=told.append) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            await app.dead_letters.replay(*await positions(app))
            await app.drained()
            await eventually(lambda: len(told) == 2)

        assert told[0].position == told[1].position


class Wire(MemoryTransport):
    """The in-process transport with a way to put anything on the wire, and to refuse what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False

    async def arrive(self, headers: dict[str, str], body: bytes, topic: str = "test.bank.public.notes.v1") -> None:
        publication = self._hand_out(
            Envelope(
                event_id=UUID(int=0),
                topic=topic,
                type="x",
                version="",
                body=body,
                occurred_on=datetime.now(UTC),
                source="/elsewhere",
            ),
            asyncio.Queue(),
        )
        for group in self._groups.values():
            group.waiting.clear()
            group.put(Delivery(topic=topic, headers=headers, body=body), publication)
        await publication.outcomes.get()

    async def publish(self, batch: Any) -> Any:
        if not self.refuses:
            async for outcome in super().publish(batch):
                yield outcome
        else:
            for envelope in batch:
                yield envelope, PublishRefusedError("memory", envelope.topic, "too late")


def envelope_of(event: NotedV1, *, version: str = "v1") -> Envelope:
    return Envelope(
        event_id=event.event_id,
        topic="test.bank.public.notes.v1",
        type="bank.noted",
        version=version,
        body=event.model_dump_json().encode(),
        occurred_on=event.occurred_on,
        source="/elsewhere",
    )


class TestUnreadable:
    """What came over the wire and is no event: kept raw, once, and never tried by itself."""

    @pytest.mark.parametrize(
        ("headers", "body", "reason"),
        [
            ({}, b"{}", "header missing"),
            ({"ce-id": ""}, b"{}", "identity"),
            ({"ce-type": "bank.unheard-of.v1"}, b"{}", "unknown type"),
            ({"ce-type": "bank.noted.v9"}, b"{}", "unknown type"),
            ({"ce-type": "__import__('os')"}, b"{}", "type"),
            ({"ce-specversion": "0.3"}, b"{}", "specversion"),
            ({"ce-time": "yesterday"}, b"{}", "time"),
            (None, b"\xff", "encoding"),
            (None, b"{", "json"),
            (None, b"[]", "json"),
            (None, b'{"text": 5}', "schema"),
            (None, b'{"text": "a", "text": "b"}', "json"),
            (None, b'{"text": NaN}', "json"),
            (None, b'{"a":' * 40 + b"1" + b"}" * 40, "too deep"),
        ],
        ids=str,
    )
    async def test_it_is_kept_with_its_bytes_and_a_reason(
        self, make_app: AppFactory, headers: dict[str, str] | None, body: bytes, reason: str
    ) -> None:
        wire, told = Wire(), list[DeadLetter]()
        right = to_headers(envelope_of(NotedV1()))
        sent = right if headers is None else {**right, **headers} if headers else {}

        async with make_app(
            module_of("mail", listener("Send", writes)), transport=wire, on_dead_letter=told.append
        ) as app:
            for _ in range(2):
                await wire.arrive(sent, body)
            await app.drained()
            (letter,) = await app.dead_letters.list()

            assert letter.subscriber_id == "@mail"
            assert letter.reason == f"unreadable: {reason}"
            assert letter.body == body
            assert dict(letter.headers) == sent
            assert await effects(app) == []
        assert [one.position for one in told] == [letter.position]

    async def test_of_a_body_that_no_database_takes_the_beginning_is_kept(self, make_app: AppFactory) -> None:
        wire, headers, body = Wire(), to_headers(envelope_of(NotedV1())), bytes(range(256)) * 4096 * 20

        async with make_app(module_of("mail", listener("Send", writes)), transport=wire) as app:
            for _ in range(2):
                await wire.arrive(headers, body)
            await app.drained()
            (letter,) = await app.dead_letters.list()

        assert letter.reason == "unreadable: too large"
        assert letter.body == body[: 4 * 1024 * 1024]
        assert letter.error is not None
        assert letter.error.endswith(f"of its {len(body)} bytes the first {len(letter.body)} are kept")

    @pytest.mark.parametrize("headers", [{}, {"5": "nobody foresaw this"}])
    async def test_what_comes_after_it_is_handled(self, make_app: AppFactory, headers: dict[str, str]) -> None:
        def headers_for(delivery: Delivery) -> dict[Any, str]:
            return {int(name): value for name, value in delivery.headers.items()}

        wire, settings = Wire(), quick_settings(foreign=ForeignSettings(headers_for=headers_for))

        async with make_app(module_of("mail", listener("Send", writes)), transport=wire, settings=settings) as app:
            await wire.arrive(headers, b"what?")
            (letter,) = await app.dead_letters.list()
            assert letter.reason == ("unreadable: unexpected" if headers else "unreadable: header missing")
            # Also where it is read for a second time.
            await app.dead_letters.replay(letter.position)
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()

            assert await effects(app) == [("Send", "1")]

    async def test_a_replay_reads_it_again(self, make_app: AppFactory) -> None:
        wire, event = Wire(), NotedV1(text="1")
        headers = to_headers(envelope_of(event))
        missing = {**headers, "ce-type": "bank.unheard-of.v1"}

        async with make_app(module_of("mail", listener("Send", writes)), transport=wire) as app:
            await wire.arrive(missing, event.model_dump_json().encode())
            await app.dead_letters.replay(*await positions(app))
            await app.drained()
            (letter,) = await app.dead_letters.list()
            assert letter.reason == "unreadable: unknown type"

    async def test_once_it_can_be_read_it_goes_to_everybody_who_listens(self, make_app: AppFactory) -> None:
        wire, event = Wire(), NotedV1(text="1")
        headers = to_headers(envelope_of(event))

        async with make_app(
            module_of("mail", listener("Talk", writes, RemarkedV1)),
            transport=wire,
        ) as app:
            (group,) = wire._groups.values()
            group.topics.add("test.bank.public.notes.v1")
            await wire.arrive(headers, event.model_dump_json().encode())
            (letter,) = await app.dead_letters.list()
        mail = module_of(
            "mail", listener("Send", writes), listener("Count", writes), listener("Talk", writes, RemarkedV1)
        )
        async with make_app(mail) as app:
            await app.dead_letters.replay(letter.position)
            await app.drained()

            assert sorted(await effects(app)) == [("Count", "1"), ("Send", "1")]
            assert await rows(app, "parked") == []

    async def test_it_cannot_be_edited_and_says_so(self, make_app: AppFactory) -> None:
        wire = Wire()

        async with make_app(
            module_of("mail", listener("Send", writes)),
            transport=wire,
            settings=quick_settings(allow_edited_replay=True),
        ) as app:
            await wire.arrive({}, b"{}")
            (position,) = await positions(app)
            with pytest.raises(OperationRefusedError, match="edit and replay of dead letter"):
                await app.dead_letters.edit_and_replay(position, {"text": "1"}, reason="test")


class TestSendingSide:
    """What the transport refused for good."""

    def app(self, make_app: AppFactory, wire: Wire, **options: Any) -> MediatorApp:
        settings = quick_settings(
            relay={"retry": RetryPolicy.never(), "poll": timedelta(milliseconds=50)}, allow_edited_replay=True
        )
        return make_app(module_of("mail", listener("Send", writes)), transport=wire, settings=settings, **options)

    async def test_it_is_a_dead_letter_and_the_hook_is_told(self, make_app: AppFactory) -> None:
        wire, told = Wire(), list[DeadLetter]()
        wire.refuses = True

        async with self.app(make_app, wire, on_dead_letter=told.append) as app:
            event = NotedV1(text="1")
            await app.publish_in_own_transaction(event)
            await app.drained()
            await eventually(lambda: told)
            (letter,) = await app.dead_letters.list()

            assert (letter.subscriber_id, letter.event_id, letter.reason) == (SENDING_SIDE, event.event_id, "not sent")
            assert letter.error is not None
            assert "refused an envelope for test.bank.public.notes.v1: too late" in letter.error
            assert await rows(app, "outbox") == []

    async def test_a_replay_sends_it_again(self, make_app: AppFactory) -> None:
        wire = Wire()
        wire.refuses = True

        async with self.app(make_app, wire) as app:
            event = NotedV1(text="1")
            await app.publish_in_own_transaction(event)
            await app.drained()
            wire.refuses = False
            await app.dead_letters.replay(*await positions(app))
            await app.drained()

            assert await effects(app) == [("Send", "1")]
            assert [row.event_id for row in await rows(app, "sent")] == [event.event_id]
            assert await positions(app) == []

    async def test_it_may_die_again_and_be_replayed_again(self, make_app: AppFactory) -> None:
        wire = Wire()
        wire.refuses = True

        async with self.app(make_app, wire) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            for _ in range(2):
                await app.dead_letters.replay(*await positions(app))
                await app.drained()
            wire.refuses = False
            await app.dead_letters.replay(*await positions(app))
            await app.drained()

            assert await effects(app) == [("Send", "1")]

    async def test_an_edited_replay_is_sent_as_a_new_event(self, make_app: AppFactory) -> None:
        wire = Wire()
        wire.refuses = True

        async with self.app(make_app, wire) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            wire.refuses = False
            (letter,) = await app.dead_letters.list()
            identity = await app.dead_letters.edit_and_replay(letter.position, {"text": "2"}, reason="typo")
            await app.drained()

            assert await effects(app) == [("Send", "2")]
            (sent,) = await rows(app, "sent")
            assert (sent.event_id, json.loads(sent.headers)) == (identity, {"edited-from": str(letter.event_id)})
            assert await positions(app, status="discarded") == [letter.position]

    async def test_it_is_discarded_restored_and_purged_like_any_other(self, make_app: AppFactory) -> None:
        wire = Wire()
        wire.refuses = True

        async with self.app(make_app, wire) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            (position,) = await positions(app, subscriber_id=SENDING_SIDE)
            await app.dead_letters.discard(position, reason="test")
            await app.dead_letters.restore(position)
            await app.dead_letters.purge(await app.dead_letters.select(), reason="test", dry_run=False)

            assert await rows(app, "parked") == await rows(app, "outbox") == []
            assert [one.action for one in await rows(app, "audit")] == ["discard", "restore", "purge"]

    async def test_one_that_somebody_wrote_into_the_table_cannot_be_edited(
        self, make_app: AppFactory, database_url: str
    ) -> None:
        wire = Wire()
        wire.refuses = True

        async with self.app(make_app, wire) as app:
            await app.publish_in_own_transaction(NotedV1(text="1"))
            await app.drained()
            await asyncio.to_thread(execute, database_url, "UPDATE mediator_parked SET headers = '{}'")
            (position,) = await positions(app)
            with pytest.raises(OperationRefusedError, match="edit and replay of dead letter"):
                await app.dead_letters.edit_and_replay(position, {"text": "2"}, reason="typo")

            assert await positions(app) == [position]
