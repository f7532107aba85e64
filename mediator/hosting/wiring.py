"""Wiring: what discovery found becomes the registry, and every fault is collected before any is raised."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from contracts import ContractError, IntegrationEvent, Upcaster, check_simple, has_topic, topic_of
from mediator.application import (
    BatchIntegrationEventHandler,
    CircuitBreaker,
    Command,
    CommandHandler,
    DomainEventHandler,
    IntegrationEventConverter,
    IntegrationEventHandler,
    Query,
    QueryHandler,
    RetryPolicy,
    StreamQuery,
    StreamQueryHandler,
    Validator,
)
from mediator.domain import DomainEvent
from mediator.errors import Fault
from mediator.hosting.discovery import classes_below, import_below, is_concrete, is_unfinished, type_arguments
from mediator.hosting.module import Module
from mediator.hosting.subscriptions import check_topics, configured
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.registry import ConverterEntry, HandlerEntry, Registry, SubscriberEntry

__all__ = ["build_registry", "new_subscriber"]

_KINDS: tuple[type[Any], ...] = (
    CommandHandler,
    QueryHandler,
    StreamQueryHandler,
    DomainEventHandler,
    IntegrationEventConverter,
    IntegrationEventHandler,
    BatchIntegrationEventHandler,
    Validator,
)
_LISTENERS = (IntegrationEventHandler, BatchIntegrationEventHandler)
_SUBSCRIBER_ID = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_LONGEST_SUBSCRIBER_ID = 100
_KINDS_OF_ATTRIBUTES: tuple[tuple[str, Any, str], ...] = (
    ("subscriber_id", str | None, "Use a text"),
    ("retry", RetryPolicy, "Use a RetryPolicy"),
    ("circuit_breaker", CircuitBreaker | None, "Use a CircuitBreaker, or None"),
)
_MOST_LANES = 1_000
_MOST_IN_A_BATCH = 500


def build_registry(
    application: str,
    environment: str,
    modules: Sequence[Module],
    contracts: Sequence[str],
    subscriptions: Mapping[str, Sequence[str]],
) -> tuple[Registry, list[Fault]]:
    """The registry of an application, and everything that is wrong with it."""
    return _Wiring(modules, contracts).registry(application, environment, subscriptions)


def new_subscriber(
    registry: Registry, module: Module, handler_class: type[Any], topics: Sequence[str]
) -> tuple[SubscriberEntry | None, list[Fault]]:
    """A handler that discovery did not find, with `topics` if there are any, and everything that is wrong with it."""
    wiring = _Wiring((), ())
    wiring.subscribers.extend(registry.subscribers)
    return wiring.added(module, handler_class, topics, registry), wiring.faults


class _Wiring:
    """Collects entries and faults, class by class."""

    def __init__(self, modules: Sequence[Module], contracts: Sequence[str]) -> None:
        self.faults: list[Fault] = []
        self.handlers: dict[type[Any], list[HandlerEntry]] = {kind: [] for kind in _KINDS}
        self.converters: list[ConverterEntry] = []
        self.subscribers: list[SubscriberEntry] = []
        self.domain_events: list[tuple[str, type[DomainEvent]]] = []
        self.events: dict[type[IntegrationEvent], None] = {}
        self.upcasters: dict[int, Upcaster] = {}
        self.modules = [module.name for module in modules]
        self._check_modules(modules)
        for package in contracts:
            self._take(None, package, f"contracts package {package!r}")
        for module in modules:
            self._take(module, module.package, f"module {module.name!r}")

    def registry(
        self, application: str, environment: str, subscriptions: Mapping[str, Sequence[str]]
    ) -> tuple[Registry, list[Fault]]:
        """Put everything together."""
        self._check_events(environment)
        self._check_subscribers()
        subscribers = configured(self.subscribers, subscriptions, environment)
        self.faults.extend(check_topics(subscribers, subscriptions))
        upcasters = tuple(self.upcasters.values())
        self.faults.extend(_upcaster_faults(upcasters, self.events))
        usable = [event for event in self.events if _address_of(event, environment) is not None]
        registry = Registry(
            application=application,
            environment=environment,
            modules=tuple(self.modules),
            commands=self._one_each(CommandHandler),
            queries=self._one_each(QueryHandler),
            streams=self._one_each(StreamQueryHandler),
            validators=tuple(self.handlers[Validator]),
            domain_events=tuple(self.domain_events),
            domain_event_handlers=tuple(self.handlers[DomainEventHandler]),
            converters=tuple(self.converters),
            subscribers=tuple(subscribers),
            upcasters=upcasters,
            catalog=EventCatalog(usable, upcasters, environment),
        )
        return registry, self.faults

    def added(self, module: Module, found: Any, topics: Sequence[str], registry: Registry) -> SubscriberEntry | None:
        """The entry of one more handler; what it needs has to be known already."""
        if not (isinstance(found, type) and issubclass(found, IntegrationEventHandler) and is_concrete(found)):
            what = f"{found!r} is no class that handles integration events"
            self._fault("signature", "subscribe()", what, "Pass a concrete subclass of IntegrationEventHandler[...]")
            return None
        self._take_handler(module, found, [kind for kind in _KINDS if issubclass(found, kind)])
        self._check_subscribers()
        for event in self.events:
            if registry.catalog.type_of(event) is None:
                what = f"{event.__qualname__} was not there when the application started"
                self._fault("contract", found, what, "Name its package in MediatorApp(contracts=...)")
        if self.faults:
            return None
        entry = self.subscribers[-1]
        (entry,) = configured([entry], {entry.id: topics} if topics else {}, registry.environment)
        self.faults.extend(check_topics([entry], {}))
        return entry

    def _fault(self, kind: str, where: str | type[Any], what: str, fix: str) -> None:
        place = where if isinstance(where, str) else f"{where.__module__}.{where.__qualname__}"
        self.faults.append(Fault(kind, place, what, fix))

    def _check_modules(self, modules: Sequence[Module]) -> None:
        for number, module in enumerate(modules):
            for other in modules[:number]:
                if module.name == other.name:
                    self._fault("module", f"module {module.name!r}", "the name stands twice", "Rename one of them")
                inner, outer = f"{module.package}.", f"{other.package}."
                if inner.startswith(outer) or outer.startswith(inner):
                    what = f"its package {module.package} overlaps with {other.package} of module {other.name!r}"
                    self._fault("module", f"module {module.name!r}", what, "Give each module a package of its own")

    def _take(self, module: Module | None, package: str, where: str) -> None:
        imported = import_below(package, () if module is None else module.exclude, where, self.faults)
        for one in imported:
            for value in vars(one).values():
                if isinstance(value, Upcaster):
                    self.upcasters[id(value)] = value
                    self.events.update({value.source: None, value.target: None})
        for found in classes_below(imported):
            if issubclass(found, IntegrationEvent) and has_topic(found):
                self.events[found] = None
            elif module is not None and issubclass(found, DomainEvent):
                self.domain_events.append((module.name, found))
            if module is not None and (kinds := [kind for kind in _KINDS if issubclass(found, kind)]):
                self._take_handler(module, found, kinds)

    def _take_handler(self, module: Module, found: type[Any], kinds: list[type[Any]]) -> None:
        if is_unfinished(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            self._fault("signature", found, f"it lacks {missing}()", "Write the method, or correct its name")
        if not is_concrete(found):
            return
        if len(kinds) > 1:
            names = " and ".join(kind.__name__ for kind in kinds)
            self._fault("two kinds", found, f"it is a {names} at once", "Write one class for each")
            return
        kind = kinds[0]
        pairs = type_arguments(found, kind)
        if len(pairs) > 1:
            what = f"it implements {len(pairs)} pairs of {kind.__name__}, and only one of them would be used"
            self._fault("two pairs", found, what, "Write one class for each pair")
            return
        arguments = next(iter(pairs), ())
        if not arguments:
            what = f"it does not say what it handles: {kind.__name__} has no type arguments"
            self._fault("signature", found, what, f"Subclass {kind.__name__}[...]")
            return
        if not self._check_arguments(found, kind, arguments):
            return
        method = {IntegrationEventConverter: "convert", Validator: "validate"}.get(kind, "handle")
        self._check_method(found, kind, method, arguments[0])
        if kind is IntegrationEventConverter:
            self.converters.append(ConverterEntry(module.name, found, *arguments))
            self.events[arguments[1]] = None
        elif kind in _LISTENERS:
            self._take_subscriber(module, found, arguments[0])
        else:
            if kind is CommandHandler:
                self._check_lock_timeout(found)
            self.handlers[kind].append(HandlerEntry(module.name, found, arguments[0]))

    def _check_lock_timeout(self, found: type[Any]) -> None:
        timeout = found.lock_timeout
        if not isinstance(timeout, timedelta) or timeout < timedelta(0):
            self._fault(
                "attribute", found, f"lock_timeout = {timeout!r} cannot work", "Use a timedelta that is not below 0"
            )

    def _check_arguments(self, found: type[Any], kind: type[Any], arguments: tuple[Any, ...]) -> bool:
        bases: Mapping[type[Any], tuple[type[Any], ...]] = {
            CommandHandler: (Command,),
            QueryHandler: (Query,),
            StreamQueryHandler: (StreamQuery,),
            DomainEventHandler: (DomainEvent,),
            IntegrationEventConverter: (DomainEvent, IntegrationEvent),
            IntegrationEventHandler: (IntegrationEvent,),
            BatchIntegrationEventHandler: (IntegrationEvent,),
        }
        for argument, base in zip(arguments, bases.get(kind, ()), strict=False):
            alternatives = _alternatives(argument) if kind in _LISTENERS else [argument]
            for one in alternatives:
                if not (isinstance(one, type) and issubclass(one, base)):
                    what = f"{kind.__name__} takes a subclass of {base.__name__}, not {_name(one)}"
                    self._fault("signature", found, what, f"Name a subclass of {base.__name__}")
                    return False
        if kind in (CommandHandler, QueryHandler, StreamQueryHandler):
            base = {CommandHandler: Command, QueryHandler: Query}.get(kind, StreamQuery)
            (declared,) = next(iter(type_arguments(arguments[0], base)), (None,)) or (None,)
            if declared not in (None, Any, arguments[1]) and arguments[1] is not Any:
                what = f"{arguments[0].__name__} promises {_name(declared)}, the handler gives {_name(arguments[1])}"
                self._fault("signature", found, what, "Use the same result type in both")
                return False
        return True

    def _check_method(self, found: type[Any], kind: type[Any], method: str, expected: Any) -> None:
        function = getattr(found, method)
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        try:
            signature.bind(None, None)
        except TypeError:
            what = f"{method}() takes {len(parameters)} parameters besides self"
            self._fault("signature", found, what, f"Take exactly one: {_name(expected)}")
            return
        if not parameters:
            return
        try:
            hint = get_type_hints(function).get(parameters[0].name, expected)
        except (NameError, TypeError):
            hint = expected
        if not _accepts(hint, expected):
            what = f"{method}() is annotated with {_name(hint)}, but the class handles {_name(expected)}"
            self._fault("signature", found, what, "Use the same type in both")
        if getattr(found, "blocking", False) and inspect.iscoroutinefunction(function):
            self._fault(
                "signature",
                found,
                "blocking = True with an `async def handle`",
                "Write a plain `def`, or drop blocking",
            )
        if kind is StreamQueryHandler and not inspect.isasyncgenfunction(function):
            self._fault("signature", found, "handle() is no async generator", "Write `async def` with `yield`")

    def _take_subscriber(self, module: Module, found: type[Any], argument: Any) -> None:
        events = tuple(_alternatives(argument))
        self.events.update(dict.fromkeys(event for event in events if event is not IntegrationEvent))
        wrong = list(_wrong_attributes(found))
        for what, fix in wrong:
            self._fault("attribute", found, f"{what} cannot work", fix)
        if wrong:
            return
        self.subscribers.append(
            SubscriberEntry(
                id=found.subscriber_id or f"{module.name}.{_kebab(found.__name__)}",
                module=module.name,
                handler_class=found,
                events=events,
                topics=tuple(found.topics),
                aliases=tuple(found.aliases),
                retry=found.retry,
                circuit_breaker=found.circuit_breaker,
                ordering=found.ordering,
                when_dead=found.when_dead,
                concurrency=found.concurrency,
                timeout=found.timeout,
                broadcast=found.broadcast,
                blocking=found.blocking,
                max_batch=found.max_batch,
                takes_batches=issubclass(found, BatchIntegrationEventHandler),
            )
        )

    def _one_each(self, kind: type[Any]) -> dict[type[Any], HandlerEntry]:
        routes: dict[type[Any], HandlerEntry] = {}
        for entry in self.handlers[kind]:
            first = routes.setdefault(entry.message_type, entry)
            if first is not entry:
                what = f"{_name(entry.message_type)} is handled by {first.handler_class.__qualname__} already"
                self._fault("two handlers", entry.handler_class, what, "A command or query has exactly one handler")
        return routes

    def _check_subscribers(self) -> None:
        taken: dict[str, SubscriberEntry] = {}
        for entry in self.subscribers:
            for name in (entry.id, *entry.aliases):
                if not _SUBSCRIBER_ID.fullmatch(name) or len(name) > _LONGEST_SUBSCRIBER_ID:
                    what = f"the subscriber id {name!r} is no lower-case name"
                    fix = "Use lower-case words joined by dots, dashes or underscores, at most 100 characters"
                    self._fault("subscriber id", entry.handler_class, what, fix)
                first = taken.setdefault(name, entry)
                if first is not entry:
                    what = f"the subscriber id {name!r} belongs to {first.handler_class.__qualname__} already"
                    self._fault("subscriber id", entry.handler_class, what, "Set subscriber_id to a name of its own")

    def _check_events(self, environment: str) -> None:
        addresses: dict[str, type[IntegrationEvent]] = {}
        names: dict[tuple[str, str], type[IntegrationEvent]] = {}
        for event in self.events:
            if not has_topic(event):
                users = [one.converter_class for one in self.converters if one.integration_event is event]
                users += [one.handler_class for one in self.subscribers if event in one.events]
                for user in users or [event]:
                    what = f"{event.__qualname__} has no topic"
                    self._fault("topic", user, what, "Decorate the contract with @event_topic(...)")
                continue
            try:
                check_simple(event)
                topic = topic_of(event)
                address = topic.address(environment)
            except ContractError as error:
                self._fault("contract", event, str(error), "Correct the contract or the environment")
                continue
            same_name = names.setdefault((topic.type, topic.version), event)
            if same_name is not event:
                what = f"its wire name {topic.type}.{topic.version} belongs to {_place(same_name)} already"
                self._fault("topic", event, what, "Set name=... or version=... in @event_topic")
            first = addresses.setdefault(address, event)
            mine, other = (_definition(one) for one in (event, first))
            if mine != other:
                what = f"its topic {address} collides with that of {_place(first)}, which is defined as {other}"
                self._fault("topic", event, what, "Change topic, domain or version of one of them")


def _wrong_attributes(found: type[Any]) -> Iterable[tuple[str, str]]:
    for name, kinds, fix in _KINDS_OF_ATTRIBUTES:
        if not isinstance(getattr(found, name), kinds):
            yield f"{name} = {getattr(found, name)!r}", fix
    if not isinstance(found.aliases, tuple | list) or not all(isinstance(alias, str) for alias in found.aliases):
        yield f"aliases = {found.aliases!r}", "Use a tuple of texts"
    if not isinstance(found.topics, tuple | list) or not all(isinstance(topic, str) for topic in found.topics):
        yield f"topics = {found.topics!r}", "Use a tuple of texts"
    yield from _wrong_order(found)
    if not isinstance(found.concurrency, int) or not 1 <= found.concurrency <= _MOST_LANES:
        yield f"concurrency = {found.concurrency!r}", f"Use a whole number from 1 to {_MOST_LANES}"
    if not isinstance(found.max_batch, int) or not 1 <= found.max_batch <= _MOST_IN_A_BATCH:
        yield f"max_batch = {found.max_batch!r}", f"Use a whole number from 1 to {_MOST_IN_A_BATCH}"
    elif found.blocking and found.max_batch > 1:
        yield f"blocking = True with max_batch = {found.max_batch}", "A blocking handler has no transaction to share"
    if not isinstance(found.timeout, timedelta) or found.timeout <= timedelta(0):
        yield f"timeout = {found.timeout!r}", "Use a timedelta above 0"


def _wrong_order(found: type[Any]) -> Iterable[tuple[str, str]]:
    if found.ordering not in ("key", "none"):
        yield f"ordering = {found.ordering!r}", 'Use "key" or "none"'
    if found.when_dead not in ("block", "skip"):
        yield f"when_dead = {found.when_dead!r}", 'Use "block" or "skip"'
    elif found.when_dead == "skip" and found.ordering == "none":
        yield 'when_dead = "skip" with ordering = "none"', 'Set ordering = "key": otherwise nothing waits for the dead'
    elif found.when_dead == "skip" and issubclass(found, BatchIntegrationEventHandler):
        fix = "Write an IntegrationEventHandler with max_batch above 1: a list cannot be told what of a key was skipped"
        yield 'when_dead = "skip" for a list of events', fix


def _upcaster_faults(upcasters: Sequence[Upcaster], events: Iterable[type[IntegrationEvent]]) -> Iterable[Fault]:
    following: dict[type[IntegrationEvent], Upcaster] = {}
    for upcaster in upcasters:
        where = f"upcaster {upcaster.source.__qualname__} -> {upcaster.target.__qualname__}"
        first = following.setdefault(upcaster.source, upcaster)
        if first is not upcaster:
            what = f"{upcaster.source.__qualname__} is upcast to {first.target.__qualname__} as well"
            yield Fault("upcaster", where, what, "Keep one way from each version to the next")
    for source in following:
        seen, at = [source], source
        while at in following:
            at = following[at].target
            if at in seen:
                ring = " -> ".join(one.__qualname__ for one in [*seen, at])
                yield Fault(
                    "upcaster", f"upcaster of {source.__qualname__}", f"a ring: {ring}", "Lead to newer versions only"
                )
                break
            seen.append(at)
        else:
            newest = max(_versions_of(at, events), key=lambda event: topic_of(event).version_number)
            if newest is not at:
                what = f"the chain ends at {at.__qualname__}, but there is {newest.__qualname__}"
                fix = f"Write an upcaster from {at.__qualname__} to {newest.__qualname__} or to a version between them"
                yield Fault("upcaster", f"upcaster of {source.__qualname__}", what, fix)


def _versions_of(
    event: type[IntegrationEvent], events: Iterable[type[IntegrationEvent]]
) -> list[type[IntegrationEvent]]:
    wire_name = topic_of(event).type
    return [event, *(one for one in events if has_topic(one) and topic_of(one).type == wire_name)]


def _address_of(event: type[IntegrationEvent], environment: str) -> str | None:
    try:
        return topic_of(event).address(environment)
    except ContractError:
        return None


def _definition(event: type[IntegrationEvent]) -> tuple[str, bool, str, str]:
    topic = topic_of(event)
    return topic.domain, topic.internal, topic.topic, topic.version


def _place(found: type[Any]) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def _name(found: Any) -> str:
    return found.__name__ if isinstance(found, type) else str(found)


def _alternatives(annotation: Any) -> list[Any]:
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def _accepts(hint: Any, expected: Any) -> bool:
    """Whether a parameter annotated with `hint` may be given what the class says it handles."""
    if hint is Any:
        return True
    allowed = [one for one in _alternatives(hint) if isinstance(one, type)]
    return not allowed or all(
        not isinstance(one, type) or issubclass(one, tuple(allowed)) for one in _alternatives(expected)
    )


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
