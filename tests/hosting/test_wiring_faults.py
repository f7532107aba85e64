import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import new_class
from typing import Any

import pytest
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic, topic_of, upcaster
from mediator import (
    BatchIntegrationEventHandler,
    Command,
    CommandHandler,
    DomainEvent,
    DomainEventHandler,
    IntegrationEventConverter,
    IntegrationEventHandler,
    MessageContext,
    PipelineBehavior,
    Query,
    QueryHandler,
    StreamQuery,
    StreamQueryHandler,
    UnitOfWork,
    Validator,
)
from mediator.application.behaviors import Proceed
from tests.hosting.wirings import app_of, fault_of, faults_of
from tests.support import module_of


@dataclass(frozen=True)
class Open(Command[int]):
    owner: str = ""


@dataclass(frozen=True)
class Opened(DomainEvent):
    owner: str = ""


@dataclass(frozen=True)
class Closed(DomainEvent):
    owner: str = ""


@dataclass(frozen=True)
class Owners(Query[int]):
    pass


@dataclass(frozen=True)
class Stream(StreamQuery[int]):
    pass


@event_topic("accounts", domain="bank")
class OpenedV1(IntegrationEvent):
    owner: str = ""


@event_topic("closings", domain="bank")
class ClosedV1(IntegrationEvent):
    owner: str = ""


class WithoutTopicV1(IntegrationEvent):
    owner: str = ""


class OpenHandler(CommandHandler[Open, int]):
    async def handle(self, command: Open) -> int:
        return 0


def class_of(name: str, base: Any, **attributes: Any) -> type[Any]:
    return new_class(name, (base,), exec_body=lambda namespace: namespace.update(attributes))


def handler_with(**attributes: Any) -> type[IntegrationEventHandler[OpenedV1]]:
    async def handle(self: object, event: OpenedV1) -> None: ...

    return class_of("Welcome", IntegrationEventHandler[OpenedV1], **{"handle": handle, **attributes})


class TestCommandsAndQueries:
    def test_two_handlers_for_one_command(self) -> None:
        class First(CommandHandler[Open, int]):
            async def handle(self, command: Open) -> int:
                return 1

        class Second(CommandHandler[Open, int]):
            async def handle(self, command: Open) -> int:
                return 2

        (fault,) = faults_of(module_of("bank", First), module_of("till", Second))

        assert fault.kind == "two handlers"
        assert "Second" in fault.where
        assert "Open is handled by" in fault.what
        assert "First" in fault.what

    def test_two_handlers_for_one_query_and_for_one_stream(self) -> None:
        def answering() -> type:
            class Answer(QueryHandler[Owners, int]):
                async def handle(self, query: Owners) -> int:
                    return 1

            return Answer

        def streaming() -> type:
            class Answers(StreamQueryHandler[Stream, int]):
                async def handle(self, query: Stream) -> AsyncGenerator[int, None]:
                    yield 1

            return Answers

        faults = faults_of(module_of("bank", answering(), streaming()), module_of("till", answering(), streaming()))

        assert [fault.kind for fault in faults] == ["two handlers", "two handlers"]

    @pytest.mark.parametrize("value", [5, None, "3s", timedelta(microseconds=-1)])
    def test_a_lock_timeout_that_cannot_work(self, value: Any) -> None:
        fault = fault_of(class_of("Impatient", OpenHandler, lock_timeout=value))

        assert fault.kind == "attribute"
        assert fault.where.endswith("Impatient")
        assert f"lock_timeout = {value!r} cannot work" in fault.what
        assert fault.fix.startswith("Use ")

    def test_a_lock_that_is_not_waited_for(self) -> None:
        handler = class_of("Impatient", OpenHandler, lock_timeout=timedelta(0))

        assert app_of(module_of("bank", handler)).registry.commands[Open].handler_class is handler

    def test_a_result_other_than_the_command_promises(self) -> None:
        class Wrong(CommandHandler[Open, str]):
            async def handle(self, command: Open) -> str:
                return ""

        fault = fault_of(Wrong)

        assert fault.kind == "signature"
        assert fault.what == "Open promises int, the handler gives str"

    @pytest.mark.parametrize(
        ("kind", "argument", "base"),
        [
            (CommandHandler, (Opened, int), "Command"),
            (QueryHandler, (Open, int), "Query"),
            (StreamQueryHandler, (Owners, int), "StreamQuery"),
            (DomainEventHandler, OpenedV1, "DomainEvent"),
            (IntegrationEventConverter, (OpenedV1, OpenedV1), "DomainEvent"),
            (IntegrationEventConverter, (Opened, Opened), "IntegrationEvent"),
            (IntegrationEventHandler, Opened, "IntegrationEvent"),
            (IntegrationEventHandler, OpenedV1 | int, "IntegrationEvent"),
        ],
    )
    def test_a_type_argument_of_another_kind(self, kind: Any, argument: Any, base: str) -> None:
        async def handle(self: object, message: Any) -> None: ...

        fault = fault_of(class_of("Wrong", kind[argument], handle=handle, convert=handle))

        assert fault.kind == "signature"
        assert fault.what.startswith(f"{kind.__name__} takes a subclass of {base}, not ")

    def test_a_handler_that_does_not_say_what_it_handles(self) -> None:
        class Bare(CommandHandler):  # type: ignore[type-arg]
            async def handle(self, command: Any) -> None: ...

        fault = fault_of(Bare)

        assert fault.kind == "signature"
        assert "no type arguments" in fault.what
        assert "CommandHandler[...]" in fault.fix


class TestSignatures:
    @pytest.mark.parametrize(
        "method",
        [
            lambda self: None,
            lambda self, event, more: None,
            lambda self, *, event: None,
        ],
    )
    def test_a_handle_that_does_not_take_exactly_one_message(self, method: Callable[..., None]) -> None:
        fault = fault_of(handler_with(handle=method))

        assert fault.kind == "signature"
        assert fault.fix == "Take exactly one: OpenedV1"

    def test_further_parameters_with_defaults_are_no_fault(self) -> None:
        async def handle(self: object, event: OpenedV1, times: int = 1, *more: int, **rest: int) -> None: ...

        assert app_of(module_of("bank", handler_with(handle=handle))).registry.subscribers

    def test_a_parameter_of_another_type_than_the_class_says(self) -> None:
        async def handle(self: object, event: ClosedV1) -> None: ...

        fault = fault_of(handler_with(handle=handle))

        assert fault.kind == "signature"
        assert "annotated with ClosedV1" in fault.what
        assert "OpenedV1" in fault.what

    def test_a_parameter_that_takes_only_some_of_several_events(self) -> None:
        class Both(IntegrationEventHandler[OpenedV1 | ClosedV1]):
            async def handle(self, event: OpenedV1) -> None: ...  # type: ignore[override]

        assert fault_of(Both).kind == "signature"

    def test_a_parameter_of_a_base_class_is_no_fault(self) -> None:
        class Wide(IntegrationEventHandler[OpenedV1]):
            async def handle(self, event: IntegrationEvent) -> None: ...

        assert app_of(module_of("bank", Wide)).registry.subscribers

    def test_a_blocking_coroutine(self) -> None:
        fault = fault_of(handler_with(blocking=True))

        assert fault.what == "blocking = True with an `async def handle`"
        assert "plain `def`" in fault.fix

    def test_a_stream_handler_that_yields_nothing(self) -> None:
        class Answers(StreamQueryHandler[Stream, int]):
            def handle(self, query: Stream) -> AsyncGenerator[int, None]:
                raise NotImplementedError

        assert fault_of(Answers).what == "handle() is no async generator"

    def test_a_converter_with_the_wrong_parameter(self) -> None:
        class Converter(IntegrationEventConverter[Opened, OpenedV1]):
            def convert(self, event: Closed) -> OpenedV1:  # type: ignore[override]
                return OpenedV1()

        fault = fault_of(Converter)

        assert fault.what.startswith("convert() is annotated with Closed")

    def test_a_validator_that_takes_nothing(self) -> None:
        class Check(Validator[Open]):
            def validate(self) -> list[str]:  # type: ignore[override]
                return []

        assert fault_of(Check).what == "validate() takes 0 parameters besides self"


class TestTwoInOne:
    def test_a_class_that_is_two_kinds_of_handler(self) -> None:
        class Both(CommandHandler[Open, int], DomainEventHandler[Opened]):
            async def handle(self, message: Any) -> Any: ...

        fault = fault_of(Both)

        assert fault.kind == "two kinds"
        assert "CommandHandler and DomainEventHandler" in fault.what

    def test_a_class_that_implements_the_pairs_of_two_converters(self) -> None:
        class OnOpened(IntegrationEventConverter[Opened, OpenedV1]):
            pass

        class OnClosed(IntegrationEventConverter[Closed, ClosedV1]):
            pass

        class Both(OnOpened, OnClosed):
            def convert(self, event: Any) -> Any: ...

        fault = fault_of(Both)

        assert fault.kind == "two pairs"
        assert "implements 2 pairs of IntegrationEventConverter" in fault.what

    def test_a_generic_base_in_between_is_one_pair(self) -> None:
        class OnOpened(IntegrationEventConverter[Opened, OpenedV1]):
            pass

        class Converter(OnOpened):
            def convert(self, event: Opened) -> OpenedV1:
                return OpenedV1()

        (entry,) = app_of(module_of("bank", OnOpened, Converter)).registry.converters
        assert (entry.domain_event, entry.integration_event) == (Opened, OpenedV1)


class TestSubscribers:
    @pytest.mark.parametrize(
        ("attribute", "value"),
        [
            ("ordering", "partition"),
            ("when_dead", "wait"),
            ("when_dead", True),
            ("concurrency", 0),
            ("concurrency", 1_001),
            ("concurrency", "8"),
            ("timeout", timedelta(0)),
            ("timeout", 30),
            ("topics", "test.#"),
            ("topics", (7,)),
            ("retry", 5),
            ("retry", None),
            ("circuit_breaker", 3),
            ("max_batch", 0),
            ("max_batch", 501),
            ("max_batch", "100"),
        ],
    )
    def test_an_attribute_that_cannot_work(self, attribute: str, value: object) -> None:
        fault = fault_of(handler_with(**{attribute: value}))

        assert fault.kind == "attribute"
        assert fault.where.endswith("Welcome")
        assert f"{attribute} = {value!r} cannot work" in fault.what
        assert fault.fix.startswith("Use ")

    def test_without_order_there_is_nothing_to_skip(self) -> None:
        fault = fault_of(handler_with(when_dead="skip"))

        assert (fault.kind, fault.where.split(".")[-1]) == ("attribute", "Welcome")
        assert fault.what == 'when_dead = "skip" with ordering = "none" cannot work'
        assert fault.fix.startswith('Set ordering = "key"')

    def test_a_list_of_events_cannot_be_told_what_was_skipped(self) -> None:
        class Total(BatchIntegrationEventHandler[OpenedV1]):
            ordering, when_dead = "key", "skip"

            async def handle(self, events: Sequence[OpenedV1]) -> None: ...

        fault = fault_of(Total)

        assert (fault.kind, fault.where.split(".")[-1]) == ("attribute", "Total")
        assert fault.what == 'when_dead = "skip" for a list of events cannot work'
        assert fault.fix.startswith("Write an IntegrationEventHandler with max_batch above 1")

    @pytest.mark.parametrize("when_dead", ["block", "skip"])
    def test_with_order_both_ways_with_the_dead_are_known(self, when_dead: str) -> None:
        (entry,) = app_of(module_of("bank", handler_with(ordering="key", when_dead=when_dead))).registry.subscribers

        assert entry.when_dead == when_dead

    def test_a_blocking_handler_has_no_transaction_to_share(self) -> None:
        class Slow(IntegrationEventHandler[OpenedV1]):
            blocking = True
            max_batch = 2

            def handle(self, event: OpenedV1) -> None: ...

        assert "blocking = True with max_batch = 2" in fault_of(Slow).what

    def test_a_batch_has_no_context_of_its_own(self) -> None:
        class Import(BatchIntegrationEventHandler[OpenedV1]):
            def __init__(self, context: MessageContext) -> None: ...

            def handle(self, events: Sequence[OpenedV1]) -> None: ...

        assert "each event of a batch has its own" in fault_of(Import).what

    @pytest.mark.parametrize(
        ("topic", "why"),
        [("test..notes", "an empty segment"), ("test.note*", "a wildcard inside"), ("my notes", "printable ASCII")],
    )
    def test_a_topic_that_cannot_be(self, topic: str, why: str) -> None:
        fault = fault_of(handler_with(topics=("test.#", topic)))

        assert fault.kind == "topic"
        assert f"cannot listen to {topic!r}" in fault.what
        assert why in fault.what
        assert "one whole segment" in fault.fix

    def test_a_handler_of_every_event_that_names_no_topics(self) -> None:
        class Audit(IntegrationEventHandler[IntegrationEvent]):
            async def handle(self, event: IntegrationEvent) -> None: ...

        fault = fault_of(Audit)

        assert (fault.kind, fault.what) == (
            "topic",
            "it takes every integration event, and no topics say from where",
        )

    def test_configured_topics_of_a_handler_that_there_is_not(self) -> None:
        (fault,) = faults_of(module_of("bank", handler_with()), subscriptions={"bank.welcom": ("test.#",)})

        assert (fault.kind, fault.where) == ("subscription", "MediatorApp(subscriptions=...)")
        assert "'bank.welcom'" in fault.what
        assert fault.fix == "This application has bank.welcome"

    def test_a_configured_topic_that_cannot_be(self) -> None:
        (fault,) = faults_of(module_of("bank", handler_with()), subscriptions={"bank.welcome": ("test.note*",)})

        assert "'test.note*'" in fault.what

    def test_every_wrong_attribute_of_a_handler_is_named(self) -> None:
        faults = faults_of(module_of("bank", handler_with(ordering="no", concurrency=0, timeout=1, retry=1)))

        assert [fault.kind for fault in faults] == ["attribute"] * 4

    @pytest.mark.parametrize(
        "attributes",
        [
            {"subscriber_id": 7},
            {"aliases": "bank.greet"},
            {"aliases": None},
            {"aliases": (7,)},
        ],
        ids=str,
    )
    def test_names_that_are_no_texts(self, attributes: dict[str, object]) -> None:
        fault = fault_of(handler_with(**attributes))

        assert fault.kind in ("attribute", "subscriber id")
        assert next(iter(attributes)) in fault.what

    @pytest.mark.parametrize("name", ["Bank.Greet", "bank greet", "bank..greet", "@bank", "b" * 101])
    def test_a_subscriber_id_that_is_no_name(self, name: str) -> None:
        fault = fault_of(handler_with(subscriber_id=name))

        assert fault.kind == "subscriber id"
        assert repr(name) in fault.what
        assert "lower-case words" in fault.fix

    def test_an_alias_that_is_no_name(self) -> None:
        assert fault_of(handler_with(aliases=("Greet!",))).kind == "subscriber id"

    def test_two_subscribers_with_one_id(self) -> None:
        (fault,) = faults_of(
            module_of("bank", handler_with(subscriber_id="greet")),
            module_of("mail", handler_with(subscriber_id="greet")),
        )

        assert fault.kind == "subscriber id"
        assert "the subscriber id 'greet' belongs to Welcome already" in fault.what

    def test_an_alias_that_somebody_else_has_as_id(self) -> None:
        (fault,) = faults_of(
            module_of("bank", handler_with(subscriber_id="greet")), module_of("mail", handler_with(aliases=("greet",)))
        )

        assert fault.kind == "subscriber id"


class TestContracts:
    def test_a_converter_whose_target_has_no_topic(self) -> None:
        class Converter(IntegrationEventConverter[Opened, WithoutTopicV1]):
            def convert(self, event: Opened) -> WithoutTopicV1:
                return WithoutTopicV1()

        fault = fault_of(Converter)

        assert fault.kind == "topic"
        assert fault.where.endswith("Converter")
        assert fault.what == "WithoutTopicV1 has no topic"
        assert "@event_topic" in fault.fix

    def test_a_handler_of_an_event_without_topic(self) -> None:
        class Handler(IntegrationEventHandler[WithoutTopicV1]):
            async def handle(self, event: WithoutTopicV1) -> None: ...

        assert fault_of(Handler).where.endswith("Handler")

    def test_two_events_on_one_stream_are_no_fault(self) -> None:
        @event_topic("accounts", domain="bank")
        class ArchivedV1(IntegrationEvent):
            owner: str = ""

        registry = app_of(module_of("bank", handler_with(), ArchivedV1)).registry

        assert len({entry.address for entry in registry.catalog}) == 1

    def test_two_topics_with_one_address(self) -> None:
        @event_topic("accounts", domain="bank", version="", name="archived")
        class Archived(IntegrationEvent):
            owner: str = ""

        # The contracts refuse a topic that ends in a version; only what was made past them gets here.
        object.__setattr__(topic_of(Archived), "topic", "accounts.v1")

        fault = fault_of(handler_with(), Archived)

        assert fault.kind == "topic"
        assert "test.bank.public.accounts.v1 collides with that of" in fault.what
        assert "Change topic, domain or version" in fault.fix

    def test_two_events_with_one_wire_name(self) -> None:
        @event_topic("others", domain="bank", name="opened")
        class Other(IntegrationEvent):
            owner: str = ""

        fault = fault_of(handler_with(), Other)

        assert fault.kind == "topic"
        assert "bank.opened.v1 belongs to" in fault.what
        assert "name=... or version=..." in fault.fix

    def test_an_address_that_is_too_long(self) -> None:
        @event_topic("a" * 240, domain="bank")
        class LongV1(IntegrationEvent):
            owner: str = ""

        fault = fault_of(LongV1)

        assert fault.kind == "contract"
        assert "249 are allowed" in fault.what


class TestUpcasters:
    def versions(self) -> Any:
        @event_topic("notes", domain="bank", version="v1")
        class NotedV1(IntegrationEvent):
            text: str = ""

        @event_topic("notes", domain="bank", version="v2")
        class NotedV2(IntegrationEvent):
            text: str = ""

        @event_topic("notes", domain="bank", version="v3")
        class NotedV3(IntegrationEvent):
            text: str = ""

        return NotedV1, NotedV2, NotedV3

    def test_two_ways_from_one_version(self) -> None:
        first, second, third = self.versions()
        ways = [upcaster(first, second)(dict), upcaster(first, third)(dict), upcaster(second, third)(dict)]

        fault = fault_of(*ways)

        assert fault.kind == "upcaster"
        assert "is upcast to" in fault.what

    def test_a_chain_that_ends_before_the_newest_version(self) -> None:
        first, second, third = self.versions()

        fault = fault_of(third, upcaster(first, second)(dict))

        assert fault.kind == "upcaster"
        assert "but there is" in fault.what
        assert "NotedV3" in fault.what

    def test_a_ring(self) -> None:
        first, second, third = self.versions()
        ways = [upcaster(first, second)(dict), upcaster(second, third)(dict)]
        # The contracts refuse a way back; only somebody who builds one past them gets here.
        back = object.__new__(type(ways[0]))
        for name, value in (("source", third), ("target", first), ("function", dict)):
            object.__setattr__(back, name, value)

        faults = faults_of(module_of("bank", *ways, back))

        assert {fault.kind for fault in faults} == {"upcaster"}
        assert all("a ring: " in fault.what for fault in faults)


class TestModules:
    def test_a_name_that_stands_twice(self) -> None:
        (fault,) = faults_of(module_of("bank"), module_of("bank"))

        assert (fault.kind, fault.where, fault.what) == ("module", "module 'bank'", "the name stands twice")

    def test_one_package_for_two_modules(self) -> None:
        one, other = module_of("bank"), module_of("till")

        (fault,) = faults_of(one, type(other)("till", package=one.package))

        assert fault.kind == "module"
        assert "overlaps with" in fault.what


class TestInjection:
    def test_a_dependency_that_nobody_bound_is_named_with_the_path_to_it(self) -> None:
        class Gateway:
            def __init__(self, url: str) -> None: ...

        class Payments:
            def __init__(self, gateway: Gateway) -> None: ...

        class Pay(CommandHandler[Open, int]):
            def __init__(self, payments: Payments) -> None: ...

            async def handle(self, command: Open) -> int:
                return 0

        Gateway.__qualname__, Payments.__qualname__, Pay.__qualname__ = "Gateway", "Payments", "Pay"

        fault = fault_of(Pay)

        assert fault.kind == "missing binding"
        assert fault.what.startswith("Pay -> Payments -> Gateway -> str: nothing is bound to it")

    def test_a_session_in_a_blocking_handler(self) -> None:
        class Slow(IntegrationEventHandler[OpenedV1]):
            blocking = True

            def __init__(self, session: AsyncSession) -> None: ...

            def handle(self, event: OpenedV1) -> None: ...

        fault = fault_of(Slow)

        assert fault.kind == "injection"
        assert "runs in a thread and has no session" in fault.what

    def test_a_unit_of_work_in_a_blocking_handler(self) -> None:
        class Slow(IntegrationEventHandler[OpenedV1]):
            blocking = True

            def __init__(self, uow: UnitOfWork) -> None: ...

            def handle(self, event: OpenedV1) -> None: ...

        assert fault_of(Slow).kind == "injection"

    def test_a_plain_session_in_a_coroutine(self) -> None:
        class Handler(IntegrationEventHandler[OpenedV1]):
            def __init__(self, session: Session) -> None: ...

            async def handle(self, event: OpenedV1) -> None: ...

        fault = fault_of(Handler)

        assert fault.kind == "injection"
        assert "AsyncSession" in fault.fix

    def test_a_plain_session_in_a_stream_handler(self) -> None:
        class Answers(StreamQueryHandler[Stream, int]):
            def __init__(self, session: Session) -> None: ...

            async def handle(self, query: Stream) -> AsyncGenerator[int, None]:
                yield 1

        assert fault_of(Answers).kind == "injection"

    def test_a_session_in_a_validator(self) -> None:
        class Check(Validator[Open]):
            def __init__(self, session: AsyncSession) -> None: ...

            def validate(self, command: Open) -> list[str]:
                return []

        fault = fault_of(OpenHandler, Check)

        assert fault.kind == "injection"
        assert "outside the unit of work and takes its session" in fault.what

    def test_a_session_in_a_behaviour_around_the_transaction(self) -> None:
        class Around(PipelineBehavior):
            inside_transaction = False

            def __init__(self, session: AsyncSession) -> None: ...

            async def handle(self, message: Any, proceed: Proceed) -> Any:
                return await proceed()

        (fault,) = faults_of(module_of("bank"), behaviors=[Around])

        assert fault.kind == "injection"
        assert "inside_transaction = True" in fault.fix

    def test_a_binding_that_fails(self) -> None:
        def bind(binder: object) -> None:
            raise LookupError("no such setting: SMTP_HOST")

        module = module_of("mail", bindings=[bind])

        (fault,) = faults_of(module)
        assert "module 'mail'" in fault.where
        assert "no such setting: SMTP_HOST" in fault.what


def test_a_handler_whose_method_is_misspelt_is_not_left_out_in_silence() -> None:
    class Welcome(IntegrationEventHandler[OpenedV1]):
        async def handel(self, event: OpenedV1) -> None: ...

    fault = fault_of(Welcome)

    assert "handle" in fault.what


def test_a_second_name_for_a_class_is_not_a_second_handler() -> None:
    class Converter(IntegrationEventConverter[Opened, OpenedV1]):
        def convert(self, event: Opened) -> OpenedV1:
            return OpenedV1()

    module = module_of("bank", Converter, OpenHandler, handler_with())
    package = vars(sys.modules[module.package])
    package.update(OldConverter=Converter, OldOpenHandler=OpenHandler, OldWelcome=package["Welcome"])

    registry = app_of(module).registry

    assert len(registry.converters) == len(registry.subscribers) == 1


def test_all_faults_are_raised_at_once() -> None:
    class Second(CommandHandler[Open, int]):
        async def handle(self, command: Open) -> int:
            return 0

    class Converter(IntegrationEventConverter[Opened, WithoutTopicV1]):
        def convert(self, event: Opened) -> WithoutTopicV1:
            return WithoutTopicV1()

    class Pay(DomainEventHandler[Opened]):
        def __init__(self, url: str) -> None: ...

        async def handle(self, event: Opened) -> None: ...

    class Twice(CommandHandler[Open, int], DomainEventHandler[Opened]):
        async def handle(self, message: Any) -> Any: ...

    broken = module_of("broken")
    broken = type(broken)("broken", package="no_such_package")

    faults = faults_of(
        module_of("bank", OpenHandler, Second, Converter, Pay, Twice, handler_with(concurrency=0)),
        module_of("bank", handler_with(subscriber_id="NO")),
        broken,
    )

    assert {fault.kind for fault in faults} == {
        "two handlers",
        "topic",
        "missing binding",
        "two kinds",
        "attribute",
        "module",
        "subscriber id",
        "import",
    }
