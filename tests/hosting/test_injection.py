"""What a compiled plan builds is what the injector would have built."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Optional, Protocol
from uuid import UUID

import injector
import pytest
from injector import AssistedBuilder, Injector, ProviderOf, inject, multiprovider, provider, singleton, threadlocal

from mediator.hosting.injection import MissingBindingError, Plans


class Clock:
    pass


class Prices:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class InjectedPrices:
    @inject
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class Gateway(ABC):
    @abstractmethod
    def pay(self) -> None: ...


class Bank(Gateway):
    def __init__(self, clock: Clock, iban: str = "none") -> None:
        self.clock, self.iban = clock, iban

    def pay(self) -> None: ...


class Sender(Protocol):
    def send(self) -> None: ...


class Post:
    def __init__(self, prices: Prices) -> None:
        self.prices = prices

    def send(self) -> None: ...


def plans_of(*bindings: Any) -> tuple[Plans, Injector]:
    """Plans, and an injector of its own with the same bindings to compare them with."""
    return Plans(Injector(list(bindings))), Injector(list(bindings))


def built(plans: Plans, wanted: type[Any]) -> Any:
    return plans.for_class(wanted).build(None)


def shape(found: object) -> Any:
    """A graph of objects, by class and attribute; plain values by themselves."""
    if type(found).__module__ != __name__:
        return found
    return type(found), {name: shape(value) for name, value in vars(found).items()}


class TestClasses:
    def test_a_class_without_constructor(self) -> None:
        plans, _ = plans_of()

        assert type(built(plans, Clock)) is Clock

    def test_a_graph_of_classes_bound_to_nothing(self) -> None:
        @inject
        @dataclass
        class Handler:
            prices: InjectedPrices
            clock: Clock

        plans, other = plans_of()

        assert shape(built(plans, Handler)) == shape(other.get(Handler))
        assert isinstance(built(plans, Handler).prices.clock, Clock)

    def test_the_decorator_makes_no_difference(self) -> None:
        plans, _ = plans_of()

        assert type(built(plans, Prices).clock) is type(built(plans, InjectedPrices).clock) is Clock

    def test_everything_is_new_every_time(self) -> None:
        plans, _ = plans_of()
        build = plans.for_class(Prices).build

        first, second = build(None), build(None)
        assert first is not second
        assert first.clock is not second.clock

    @pytest.mark.parametrize("number", range(7))
    def test_any_number_of_parameters_keeps_its_order(self, number: int) -> None:
        kinds = [type(f"Part{position}", (), {}) for position in range(number)]
        namespace: dict[str, Any] = {"__name__": __name__, **{kind.__name__: kind for kind in kinds}}
        names = ", ".join(f"p{position}: Part{position}" for position in range(number))
        exec(
            f"class Whole:\n  def __init__({', '.join(filter(None, ['self', names]))}): self.parts = locals()",
            namespace,
        )
        plans, _ = plans_of()

        parts = built(plans, namespace["Whole"]).parts

        assert [type(parts[f"p{position}"]) for position in range(number)] == kinds

    def test_keyword_only_parameters(self) -> None:
        class Handler:
            def __init__(self, clock: Clock, *, prices: Prices, more: Clock) -> None:
                self.clock, self.prices, self.more = clock, prices, more

        plans, _ = plans_of()
        handler = built(plans, Handler)

        assert (type(handler.clock), type(handler.prices), type(handler.more)) == (Clock, Prices, Clock)

    def test_positional_only_parameters(self) -> None:
        class Handler:
            def __init__(self, a: Clock, b: Prices, c: Clock, d: Prices, /) -> None:
                self.kinds = [type(one) for one in (a, b, c, d)]

        plans, _ = plans_of()

        assert built(plans, Handler).kinds == [Clock, Prices, Clock, Prices]

    def test_a_parameter_with_a_default_that_nobody_bound_keeps_it(self) -> None:
        class Handler:
            def __init__(
                self, clock: Clock, times: int = 3, prices: Prices | None = None, *rest: int, **more: int
            ) -> None:
                self.clock, self.times, self.prices, self.rest, self.more = clock, times, prices, rest, more

        plans, _ = plans_of()
        handler = built(plans, Handler)

        assert isinstance(handler.clock, Clock)
        assert (handler.times, handler.prices, handler.rest, handler.more) == (3, None, (), {})

    def test_a_parameter_with_a_default_that_somebody_bound_is_injected(self) -> None:
        class Handler:
            def __init__(self, times: int = 3, prices: Prices | None = None) -> None:
                self.times, self.prices = times, prices

        def bind(binder: injector.Binder) -> None:
            binder.bind(int, to=7)
            binder.bind(Prices)

        plans, _ = plans_of(bind)
        handler = built(plans, Handler)

        assert handler.times == 7
        assert isinstance(handler.prices, Prices)

    def test_optional_and_annotated_stand_for_what_is_inside(self) -> None:
        class Handler:
            def __init__(
                self,
                one: Prices | None,
                two: Optional[Clock],  # noqa: UP045 - the older spelling is part of the test
                three: Annotated[Clock, "UTC"],
            ) -> None:
                self.kinds = [type(part) for part in (one, two, three)]

        plans, _ = plans_of()

        assert built(plans, Handler).kinds == [Prices, Clock, Clock]


class TestBindings:
    def test_an_instance(self) -> None:
        clock = Clock()
        plans, _ = plans_of(lambda binder: binder.bind(Clock, to=clock))

        assert built(plans, Prices).clock is clock

    def test_an_instance_of_a_builtin_type(self) -> None:
        class Handler:
            def __init__(self, url: str) -> None:
                self.url = url

        plans, _ = plans_of(lambda binder: binder.bind(str, to="https://bank"))

        assert built(plans, Handler).url == "https://bank"

    def test_an_abstract_class_and_its_implementation(self) -> None:
        class Handler:
            def __init__(self, gateway: Gateway) -> None:
                self.gateway = gateway

        plans, _ = plans_of(lambda binder: binder.bind(Gateway, to=Bank))
        handler = built(plans, Handler)

        assert shape(handler.gateway) == (Bank, {"clock": (Clock, {}), "iban": "none"})

    def test_a_protocol_and_its_implementation(self) -> None:
        class Handler:
            def __init__(self, sender: Sender) -> None:
                self.sender = sender

        plans, _ = plans_of(lambda binder: binder.bind(Sender, to=Post))

        assert shape(built(plans, Handler).sender) == (Post, {"prices": (Prices, {"clock": (Clock, {})})})

    def test_a_function_is_called_for_each(self) -> None:
        plans, _ = plans_of(lambda binder: binder.bind(Clock, to=lambda: Clock()))  # noqa: PLW0108
        build = plans.for_class(Prices).build

        assert build(None).clock is not build(None).clock

    def test_a_function_with_parameters(self) -> None:
        @inject
        def make(clock: Clock) -> Gateway:
            return Bank(clock, "DE02")

        plans, other = plans_of(lambda binder: binder.bind(Gateway, to=make))

        assert shape(built(plans, Gateway)) == shape(other.get(Gateway))  # type: ignore[type-abstract]

    def test_provider_methods_of_an_injector_module(self) -> None:
        class Bindings(injector.Module):
            @provider
            def gateway(self, clock: Clock) -> Gateway:
                return Bank(clock, "DE02")

            @provider
            @singleton
            def prices(self, clock: Clock) -> Prices:
                return Prices(clock)

        class Handler:
            @inject
            def __init__(self, gateway: Gateway, prices: Prices, again: Prices) -> None:
                self.gateway, self.prices, self.again = gateway, prices, again

        plans, other = plans_of(Bindings)
        handler = built(plans, Handler)

        assert shape(handler) == shape(other.get(Handler))
        assert handler.prices is handler.again is built(plans, Handler).prices

    def test_several_of_a_kind(self) -> None:
        class Bindings(injector.Module):
            def configure(self, binder: injector.Binder) -> None:
                binder.multibind(list[Gateway], to=[Bank(Clock(), "one")])

            @multiprovider
            def more(self) -> list[Gateway]:
                return [Bank(Clock(), "two")]

        class Handler:
            def __init__(self, gateways: list[Gateway]) -> None:
                self.gateways = gateways

        plans, other = plans_of(Bindings)

        assert [shape(one) for one in built(plans, Handler).gateways] == [
            shape(one) for one in other.get(list[Gateway])
        ]

    def test_assisted_builders_and_providers_are_left_to_the_injector(self) -> None:
        class Handler:
            def __init__(self, build: AssistedBuilder[InjectedPrices], provide: ProviderOf[Clock]) -> None:
                self.prices, self.clock = build.build(), provide.get()

        plans, _ = plans_of()

        assert shape(built(plans, Handler)) == (
            Handler,
            {"prices": (InjectedPrices, {"clock": (Clock, {})}), "clock": (Clock, {})},
        )

    def test_the_injector_itself(self) -> None:
        class Handler:
            def __init__(self, source: Injector) -> None:
                self.source = source

        source = Injector([])

        assert built(Plans(source), Handler).source is source

    def test_a_scope_of_the_applications_own(self) -> None:
        plans, _ = plans_of(lambda binder: binder.bind(Clock, scope=threadlocal))
        build = plans.for_class(Prices).build

        assert build(None).clock is build(None).clock


class TestSingletons:
    @pytest.mark.parametrize("first", ["plan", "injector"])
    @pytest.mark.parametrize(
        "bind",
        [
            lambda binder: binder.bind(Prices, scope=singleton),
            lambda binder: binder.bind(InjectedPrices, scope=singleton),
        ],
        ids=["plain", "@inject"],
    )
    def test_plan_and_injector_give_the_same_object(self, bind: Callable[..., None], first: str) -> None:
        source = Injector([bind])
        wanted = Prices if source.binder.has_explicit_binding_for(Prices) else InjectedPrices
        plan = Plans(source).for_class(wanted)

        by_plan: Callable[[Any], Any] = plan.build
        by_injector: Callable[[Any], Any] = lambda _: source.get(wanted)  # noqa: E731
        one, other = by_plan, by_injector
        if first == "injector":
            one, other = other, one
        assert one(None) is other(None) is one(None)

    def test_a_decorated_class(self) -> None:
        @singleton
        class Counter:
            pass

        class Handler:
            def __init__(self, counter: Counter) -> None:
                self.counter = counter

        source = Injector([])
        build = Plans(source).for_class(Handler).build

        assert build(None).counter is build(None).counter is source.get(Counter)

    def test_an_interface_and_its_implementation(self) -> None:
        wanted: Any = Gateway  # mypy takes no abstract class where a class is wanted
        source = Injector([lambda binder: binder.bind(wanted, to=Bank, scope=singleton)])
        build = Plans(source).for_class(wanted).build

        assert build(None) is build(None) is source.get(wanted)
        assert isinstance(build(None).clock, Clock)

    def test_it_is_made_when_it_is_first_needed(self) -> None:
        made: list[int] = []

        class Connection:
            def __init__(self) -> None:
                made.append(1)

        plan = Plans(Injector([lambda binder: binder.bind(Connection, scope=singleton)])).for_class(Connection)

        assert made == []
        plan.build(None)
        plan.build(None)
        assert made == [1]


class TestModules:
    """The injector of a module is a child of the application's."""

    def test_what_a_module_binds_is_its_own(self) -> None:
        root = Injector([lambda binder: binder.bind(str, to="application")])
        bank = Plans(root.create_child_injector([lambda binder: binder.bind(str, to="bank")]))
        till = Plans(root.create_child_injector([]))

        class Handler:
            def __init__(self, name: str) -> None:
                self.name = name

        assert (built(bank, Handler).name, built(till, Handler).name) == ("bank", "application")

    def test_what_the_application_binds_as_singleton_is_one_for_all_modules(self) -> None:
        root = Injector([lambda binder: binder.bind(Prices, scope=singleton)])
        bank, till = (Plans(root.create_child_injector([])) for _ in range(2))

        assert built(bank, Prices) is built(till, Prices) is root.get(Prices)

    def test_a_decorated_singleton_is_one_for_all_modules_as_with_the_injector(self) -> None:
        @singleton
        class Counter:
            pass

        one, other = (Injector([]).create_child_injector([]) for _ in range(2))
        root = Injector([])
        one, other = root.create_child_injector([]), root.create_child_injector([])
        expected = one.get(Counter) is other.get(Counter)
        root = Injector([])
        bank, till = (Plans(root.create_child_injector([])) for _ in range(2))

        assert (built(bank, Counter) is built(till, Counter)) == expected

    def test_a_singleton_of_a_module_is_one_for_this_module(self) -> None:
        root = Injector([])
        bank, till = (
            Plans(root.create_child_injector([lambda binder: binder.bind(Clock, scope=singleton)])) for _ in range(2)
        )

        assert built(bank, Prices).clock is built(bank, Clock)
        assert built(bank, Clock) is not built(till, Clock)

    def test_an_application_wide_singleton_does_not_take_the_first_modules_bindings(self) -> None:
        class Named:
            @inject
            def __init__(self, name: str) -> None:
                self.name = name

        def bind(binder: injector.Binder) -> None:
            binder.bind(Named, scope=singleton)
            binder.bind(str, to="application")

        def name_of(compiled: bool) -> str:
            child = Injector([bind]).create_child_injector([lambda binder: binder.bind(str, to="bank")])
            found: Named = built(Plans(child), Named) if compiled else child.get(Named)
            return found.name

        assert name_of(compiled=True) == name_of(compiled=False)

    def test_an_unscoped_binding_of_the_application_takes_the_modules_own(self) -> None:
        class Named:
            @inject
            def __init__(self, name: str) -> None:
                self.name = name

        root = Injector([lambda binder: binder.bind(Named)])
        child = root.create_child_injector([lambda binder: binder.bind(str, to="bank")])

        assert built(Plans(child), Named).name == child.get(Named).name == "bank"


class TestFaults:
    def assert_missing(self, wanted: type[Any], message: str, *bindings: Any) -> None:
        with pytest.raises(MissingBindingError) as caught:
            Plans(Injector(list(bindings))).for_class(wanted)
        found = " -> ".join(part.rpartition(".")[2] for part in caught.value.path)
        assert f"{found}: {caught.value.why}".startswith(message)

    def test_an_interface_that_nobody_bound(self) -> None:
        class Handler:
            def __init__(self, sender: Sender) -> None: ...

        self.assert_missing(Handler, "Handler -> Sender: nothing is bound to it, and it cannot be built by itself")
        self.assert_missing(Gateway, "Gateway: nothing is bound to it")

    @pytest.mark.parametrize("kind", [str, int, bytes, dict, timedelta, Decimal, UUID, Path])
    def test_a_plain_value_that_nobody_bound(self, kind: type[Any]) -> None:
        class Handler:
            def __init__(self, value: Any) -> None: ...

        Handler.__init__.__annotations__["value"] = kind

        self.assert_missing(Handler, f"Handler -> {kind.__name__}: nothing is bound to it")

    def test_a_list_that_nobody_bound(self) -> None:
        class Handler:
            def __init__(self, gateways: list[Gateway]) -> None: ...

        self.assert_missing(Handler, "Handler -> list: nothing is bound to it, and it is no class")

    def test_a_parameter_without_annotation(self) -> None:
        class Handler:
            def __init__(self, prices) -> None: ...  # type: ignore[no-untyped-def]

        self.assert_missing(Handler, "Handler -> prices: the parameter has no annotation")

    def test_an_annotation_that_cannot_be_read(self) -> None:
        class Handler:
            def __init__(self, prices: "NoSuchClass") -> None: ...  # type: ignore[name-defined]  # noqa: F821

        self.assert_missing(Handler, "Handler: its constructor's annotations cannot be read: name 'NoSuchClass'")

    def test_a_ring_is_named(self) -> None:
        class Hen:
            def __init__(self, egg: Any) -> None: ...

        class Egg:
            def __init__(self, hen: Hen) -> None: ...

        Hen.__init__.__annotations__["egg"] = Egg

        self.assert_missing(Hen, "Hen -> Egg -> Hen: it needs itself")

    def test_two_classes_of_one_name_are_no_ring(self) -> None:
        cached = type("Prices", (), {})

        def construct(self: Any, behind: Prices) -> None:
            self.behind = behind

        cached.__init__ = construct  # type: ignore[misc]
        plans, _ = plans_of()

        assert isinstance(built(plans, cached).behind, Prices)

    def test_a_binding_to_something_that_cannot_be_built(self) -> None:
        class Remote(Gateway):
            def __init__(self, url: str) -> None: ...

            def pay(self) -> None: ...

        self.assert_missing(Gateway, "Gateway -> str: nothing", lambda binder: binder.bind(Gateway, to=Remote))
