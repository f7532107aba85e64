"""The composition of an application: its registry, and how to build each of its classes.

Nothing here opens a database or a transport; whatever is wrong is raised as one WiringError.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import injector

from mediator.application import (
    BatchIntegrationEventHandler,
    HandlingMiddleware,
    PipelineBehavior,
    PublishingMiddleware,
    Validator,
    Validators,
)
from mediator.errors import Fault, SettingsError, WiringError
from mediator.hosting.injection import MissingBindingError, Plan, Plans
from mediator.hosting.module import Bindings, Module
from mediator.hosting.subscriptions import with_topics
from mediator.hosting.wiring import build_registry, new_subscriber
from mediator.messaging.handling import Build
from mediator.messaging.registry import HandlerEntry, Registry, SubscriberEntry

__all__ = ["Composition", "Middleware"]

Middleware: TypeAlias = (
    PublishingMiddleware | HandlingMiddleware | type[PublishingMiddleware] | type[HandlingMiddleware]
)


class Composition:
    """What the modules are made of."""

    def __init__(
        self,
        application: str,
        environment: str,
        modules: Sequence[Module],
        contracts: Sequence[str],
        bindings: Bindings,
        behaviors: Sequence[type[PipelineBehavior]],
        middleware: Sequence[Middleware],
        subscriptions: Mapping[str, Sequence[str]],
        provided: Mapping[type[Any], Callable[[], Any]],
    ) -> None:
        self.registry, faults = build_registry(application, environment, modules, contracts, subscriptions)
        self.behaviors = tuple(behaviors)
        self._plans: dict[type[Any], Plan] = {}
        self._validators: Validators | None = None

        def bind_provided(binder: injector.Binder) -> None:
            for interface, provide in {
                **provided,
                Registry: lambda: self.registry,
                Validators: self._get_validators,
            }.items():
                binder.bind(interface, to=injector.CallableProvider(provide))

        root = _injector("the application", [bind_provided, *bindings], None, faults)
        classes = [one for one in middleware if isinstance(one, type)]
        self._compile([*self.behaviors, *classes], Plans(root), faults)
        by_module = _classes_of(self.registry)
        self._modules = {module.name: module for module in modules}
        self._plans_in: dict[str, Plans] = {}
        for module in modules:
            own = _injector(f"module {module.name!r}", list(module.bindings), root, faults)
            self._plans_in[module.name] = Plans(own)
            self._compile(by_module.get(module.name, ()), self._plans_in[module.name], faults)
        if faults:
            raise WiringError(faults)
        self.publishing_middleware = [self._build(one) for one in middleware if _is(one, PublishingMiddleware)]
        self.handling_middleware = [self._build(one) for one in middleware if _is(one, HandlingMiddleware)]

    def plan(self, wanted: type[Any]) -> Build:
        """How to build `wanted` from what a unit of work has."""
        return self._plans[wanted].build

    def subscriber(self, handler: type[Any] | str, topics: Sequence[str], module: str) -> SubscriberEntry:
        """A handler as it is to listen: one of `module`, checked as at start, or a known one with more topics.

        Raises WiringError, and SettingsError for names that nobody has.
        """
        known = next((one for one in self.registry.subscribers if handler in (one.id, one.handler_class)), None)
        entry: SubscriberEntry | None
        if known is not None:
            entry, faults = with_topics(self.registry, known, topics)
        elif isinstance(handler, str):
            ids = ", ".join(one.id for one in self.registry.subscribers)
            raise SettingsError("handler", handler, f"this application has {ids or 'none'}")
        elif module not in self._modules:
            raise SettingsError("module", module, f"this application has {', '.join(self._modules)}")
        else:
            entry, faults = new_subscriber(self.registry, self._modules[module], handler, topics)
            if not faults:
                self._compile([handler], self._plans_in[module], faults)
        if faults or entry is None:
            raise WiringError(faults)
        return entry

    def add(self, entry: SubscriberEntry) -> None:
        """Let the registry know of a subscriber, in place of what it knew of it."""
        subscribers = {one.id: one for one in self.registry.subscribers} | {entry.id: entry}
        self.registry = replace(self.registry, subscribers=tuple(subscribers.values()))

    def _build(self, one: Middleware) -> Build:
        return self.plan(one) if isinstance(one, type) else lambda _uow: one

    def _compile(self, classes: Sequence[type[Any]], plans: Plans, faults: list[Fault]) -> None:
        for wanted in classes:
            place = f"{wanted.__module__}.{wanted.__qualname__}"
            try:
                self._plans[wanted] = plan = plans.for_class(wanted)
            except MissingBindingError as error:
                fix = "Bind it in the module's `bindings`, or annotate the parameter with a class that can be built"
                faults.append(Fault("missing binding", place, str(error), fix))
            else:
                faults.extend(Fault("injection", place, what, fix) for what, fix in _misfits(wanted, plan))

    def _get_validators(self) -> Validators:
        if self._validators is None:
            by_type: dict[type[Any], list[Validator[Any]]] = {}
            for entry in self.registry.validators:
                by_type.setdefault(entry.message_type, []).append(self.plan(entry.handler_class)(None))
            self._validators = Validators(by_type)
        return self._validators


def _is(one: Middleware, kind: type[Any]) -> bool:
    return issubclass(one, kind) if isinstance(one, type) else isinstance(one, kind)


def _injector(
    where: str, bindings: Bindings, parent: injector.Injector | None, faults: list[Fault]
) -> injector.Injector:
    """An injector with these bindings; one that raises is a fault, and the others still count."""
    made = injector.Injector(parent=parent)
    for binding in bindings:
        try:
            made.binder.install(binding)
        except Exception as error:  # noqa: BLE001 - whatever a binding raises is a fault of the wiring
            what = f"binding {getattr(binding, '__qualname__', binding)} failed with {type(error).__name__}: {error}"
            faults.append(Fault("binding", where, what, "Correct the function or injector module in `bindings`"))
    return made


def _classes_of(registry: Registry) -> dict[str, list[type[Any]]]:
    entries: list[HandlerEntry | SubscriberEntry] = [
        *registry.commands.values(),
        *registry.queries.values(),
        *registry.streams.values(),
        *registry.validators,
        *registry.domain_event_handlers,
        *registry.subscribers,
    ]
    classes: dict[str, list[type[Any]]] = {}
    for entry in entries:
        classes.setdefault(entry.module, []).append(entry.handler_class)
    for converter in registry.converters:
        classes.setdefault(converter.module, []).append(converter.converter_class)
    return classes


def _misfits(wanted: type[Any], plan: Plan) -> list[tuple[str, str]]:
    """What a class takes of the unit of work and cannot use."""
    found = []
    function = getattr(wanted, "handle", None) or getattr(wanted, "convert", None)
    if getattr(wanted, "blocking", False) and plan.needs & {"session", "sync_session", "unit of work"}:
        found.append(
            ("a blocking handler runs in a thread and has no session", "Return events or results, or drop `blocking`")
        )
    elif "sync_session" in plan.needs and (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        found.append(("an `async def` handler gets a plain Session", "Take an AsyncSession, or write a plain `def`"))
    if issubclass(wanted, BatchIntegrationEventHandler) and "context" in plan.needs:
        what = "it takes the MessageContext, and each event of a batch has its own"
        found.append((what, "Write an IntegrationEventHandler with max_batch above 1, or drop the dependency"))
    outside = issubclass(wanted, Validator) or (issubclass(wanted, PipelineBehavior) and not wanted.inside_transaction)
    if outside and plan.needs:
        found.append(
            (
                f"it runs outside the unit of work and takes its {', '.join(sorted(plan.needs))}",
                "Drop the dependency, or let a behaviour run with inside_transaction = True",
            )
        )
    return found
