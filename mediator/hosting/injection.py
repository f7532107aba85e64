"""Construction: a handler's dependencies by constructor annotation, compiled once into plain closures.

`injector` decides what is bound to what; but asking it for a small graph costs hundreds of microseconds, because it
inspects every signature each time. So each class is looked at once, at start, and becomes a function that calls its
constructor with the results of other such functions. What cannot be compiled (multi-bindings, assisted builders,
scopes of the application's own) is asked of the injector at run time.

Scoped to a unit of work are its session, context, publisher, and every class bound in `UnitOfWorkScope`.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import injector
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
import sqlmodel
import sqlmodel.ext.asyncio.session

from mediator.application import IntegrationEventPublisher, MessageContext, UnitOfWork
from mediator.publishing.unit_of_work import SqlUnitOfWork, current_unit_of_work

__all__ = ["MissingBindingError", "Plan", "Plans", "UnitOfWorkScope", "unit_of_work_scope"]


class UnitOfWorkScope(injector.Scope):
    """One instance for each unit of work."""

    def get(self, key: Any, provider: Any) -> Any:
        """The instance of the unit of work that this code runs in."""
        uow = current_unit_of_work()
        if uow is None:
            raise MissingBindingError([str(key)], "it is bound in UnitOfWorkScope and there is no unit of work")
        if key not in uow.instances:
            uow.instances[key] = provider.get(self.injector)
        return injector.InstanceProvider(uow.instances[key])


unit_of_work_scope = injector.ScopeDecorator(UnitOfWorkScope)
"""Decorates a class of which every unit of work has one instance."""


class MissingBindingError(Exception):
    """A dependency cannot be built; `path` leads to it. The wiring turns it into a fault."""

    def __init__(self, path: list[str], why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{' -> '.join(path)}: {why}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to build something from what a unit of work has."""

    build: Callable[[Any], Any]
    needs: frozenset[str] = frozenset()
    """What it takes of the unit of work: `session`, `sync_session`, `context`, `publisher`, `scope`, or all of it."""


_ITSELF = Plan(lambda uow: uow, frozenset({"unit of work"}))
_SCOPED: dict[Any, Plan] = {
    sqlalchemy.ext.asyncio.AsyncSession: Plan(lambda uow: uow.session, frozenset({"session"})),
    sqlmodel.ext.asyncio.session.AsyncSession: Plan(lambda uow: uow.session, frozenset({"session"})),
    sqlalchemy.orm.Session: Plan(lambda uow: uow.sync_session, frozenset({"sync_session"})),
    sqlmodel.Session: Plan(lambda uow: uow.sync_session, frozenset({"sync_session"})),
    MessageContext: Plan(lambda uow: uow.context, frozenset({"context"})),
    UnitOfWork: _ITSELF,
    SqlUnitOfWork: _ITSELF,
    IntegrationEventPublisher: Plan(lambda uow: uow, frozenset({"publisher"})),
}


class Plans:
    """Compiled plans of one injector: a module's, or the application's."""

    def __init__(self, source: injector.Injector) -> None:
        self._injector = source
        self._parent = None if source.parent is None else Plans(source.parent)
        self._plans: dict[Any, Plan] = {}
        for interface, plan in _SCOPED.items():
            self._bind_scoped(interface, plan)

    def for_class(self, wanted: type[Any]) -> Plan:
        """The plan for a handler class; raises MissingBindingError with the path to what is missing."""
        return self.plan(wanted, [])

    def _bind_scoped(self, interface: Any, plan: Plan) -> None:
        # For what is left to the injector: there, the unit of work is found by context.
        def provide() -> Any:
            uow = current_unit_of_work()
            if uow is None:
                raise MissingBindingError([interface.__name__], "there is no unit of work")
            return plan.build(uow)

        self._injector.binder.bind(interface, to=injector.CallableProvider(provide))
        self._plans[interface] = plan

    def plan(self, interface: Any, path: list[Any]) -> Plan:
        """The plan for `interface`, which `path` led to."""
        if interface in self._plans:
            return self._plans[interface]
        if interface in path:
            raise MissingBindingError(_names([*path, interface]), "it needs itself")
        path = [*path, interface]
        if get_origin(interface) in (injector.AssistedBuilder, injector.ProviderOf):
            plan = self._asked_at_run_time(interface)
        else:
            if _binder_of(interface, self._injector) is None:
                _check_buildable(interface, path)
            plan = self._inherited(interface, path) or self._bound(interface, path)
        self._plans[interface] = plan
        return plan

    def _asked_at_run_time(self, interface: Any) -> Plan:
        return Plan(lambda _uow: self._injector.get(interface), frozenset({"scope"}))

    def _inherited(self, interface: Any, path: list[Any]) -> Plan | None:
        """A singleton of the application is built with the application's bindings, not with this module's."""
        binding, owner = self._injector.binder.get_binding(interface)
        implicit = isinstance(binding, injector.ImplicitBinding)
        if self._parent is None or _scope_of(binding) is not injector.SingletonScope:
            return None
        if owner is self._injector.binder and not implicit:
            return None
        try:
            return self._parent.plan(interface, path[:-1])
        except MissingBindingError:
            if implicit:
                return None
            raise

    def _bound(self, interface: Any, path: list[Any]) -> Plan:
        # The providers' own attributes have no public form; a provider without them is left to the injector.
        binding, owner = self._injector.binder.get_binding(interface)
        scope, provider = _scope_of(binding), binding.provider
        if isinstance(provider, injector.InstanceProvider):
            instance = provider.get(self._injector)
            return Plan(lambda _uow: instance)
        if isinstance(provider, injector.ClassProvider):
            made = self._construction(provider._cls, path)  # noqa: SLF001
        elif isinstance(provider, injector.CallableProvider):
            function = provider._callable  # noqa: SLF001
            made = self._call(function, injector.get_bindings(function), path)
        else:
            return self._asked_at_run_time(interface)
        if scope is injector.NoScope:
            return made
        if scope is UnitOfWorkScope:
            return Plan(_once_per_unit_of_work(interface, made.build), made.needs | {"scope"})
        if scope is not injector.SingletonScope:
            return self._asked_at_run_time(interface)
        if made.needs:
            what = f"a singleton cannot have the {', '.join(sorted(made.needs))} of a unit of work"
            raise MissingBindingError(_names(path), what)
        if isinstance(provider, injector.ClassProvider) and binding.interface is interface:
            # So that the injector, asked elsewhere, builds the same one, decorated with @inject or not.
            build = made.build
            owner.bind(interface, to=injector.CallableProvider(lambda: build(None)), scope=scope)
        return Plan(_once(lambda: self._injector.get(interface)))

    def _construction(self, wanted: type[Any], path: list[Any]) -> Plan:
        if wanted.__init__ is object.__init__:
            return Plan(lambda _uow: wanted())
        return self._call(wanted, _constructor_parameters(wanted, path, self._injector), path)

    def _call(self, function: Callable[..., Any], parameters: dict[str, Any], path: list[Any]) -> Plan:
        plans = {name: self.plan(interface, path) for name, interface in parameters.items()}
        needs = frozenset().union(*(plan.needs for plan in plans.values())) if plans else frozenset()
        return Plan(_calling(function, {name: plan.build for name, plan in plans.items()}), needs)


def _constructor_parameters(wanted: type[Any], path: list[Any], source: injector.Injector) -> dict[str, Any]:
    try:
        hints = get_type_hints(wanted.__init__, include_extras=True)
        signature = inspect.signature(wanted)
    except (NameError, TypeError, ValueError) as error:
        raise MissingBindingError(_names(path), f"its constructor's annotations cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name not in hints:
            if parameter.default is parameter.empty:
                raise MissingBindingError([*_names(path), name], "the parameter has no annotation")
            continue
        interface = _plain(hints[name])
        known = interface in _SCOPED or _binder_of(interface, source) is not None
        if known or parameter.default is parameter.empty:
            found[name] = interface
    return found


def _binder_of(interface: Any, source: injector.Injector | None) -> injector.Binder | None:
    """Where the application bound something, here or in a parent."""
    while source is not None:
        if source.binder.has_explicit_binding_for(interface):
            return source.binder
        source = source.parent
    return None


def _plain(annotation: Any) -> Any:
    """`X` of `Annotated[X, ...]` and of `X | None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, type(int | None)):
        inner = [one for one in get_args(annotation) if one is not type(None)]
        if len(inner) == 1:
            return _plain(inner[0])
    return annotation


def _check_buildable(interface: Any, path: list[Any]) -> None:
    if not isinstance(interface, type):
        raise MissingBindingError(_names(path), "nothing is bound to it, and it is no class")
    # A plain value (a text, a timedelta, a Path) can be built, but only as nothing.
    is_value = interface.__module__.partition(".")[0] in sys.stdlib_module_names
    if is_value or inspect.isabstract(interface) or getattr(interface, "_is_protocol", False):
        raise MissingBindingError(_names(path), "nothing is bound to it, and it cannot be built by itself")


def _names(path: list[Any]) -> list[str]:
    return [getattr(interface, "__qualname__", str(interface)) for interface in path]


def _scope_of(binding: injector.Binding) -> Any:
    return getattr(binding.scope, "scope", binding.scope)


def _calling(function: Callable[..., Any], builds: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    # By position where that is possible: it takes half the time of keywords.
    names = [name for name, parameter in _parameters(function) if parameter.kind is not parameter.KEYWORD_ONLY]
    by_position = names[: len(builds)] == list(builds)
    match list(builds.values()) if by_position else None:
        case []:
            return lambda _uow: function()
        case [first]:
            return lambda uow: function(first(uow))
        case [first, second]:
            return lambda uow: function(first(uow), second(uow))
        case [first, second, third]:
            return lambda uow: function(first(uow), second(uow), third(uow))
    if by_position:
        plans = tuple(builds.values())
        return lambda uow: function(*[build(uow) for build in plans])
    pairs = tuple(builds.items())
    return lambda uow: function(**{name: build(uow) for name, build in pairs})


def _parameters(function: Callable[..., Any]) -> list[tuple[str, inspect.Parameter]]:
    return list(inspect.signature(function).parameters.items())


def _once(make: Callable[[], Any]) -> Callable[[Any], Any]:
    made: list[Any] = []

    def build(_uow: Any) -> Any:
        if not made:
            made.append(make())
        return made[0]

    return build


def _once_per_unit_of_work(interface: Any, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def build(uow: Any) -> Any:
        instances = uow.instances
        if interface not in instances:
            instances[interface] = make(uow)
        return instances[interface]

    return build
