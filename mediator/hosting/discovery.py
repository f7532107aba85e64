"""Discovery: every module below a package is imported, and the concrete classes defined there are taken.

What a class handles is read from its type arguments, through any number of generic bases in between.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Generic, get_args, get_origin

from mediator.errors import Fault

__all__ = ["classes_below", "import_below", "is_concrete", "type_arguments"]


def import_below(package: str, where: str, faults: list[Fault]) -> list[ModuleType]:
    """Import `package` and all below it, in the order of names; what cannot be imported is a fault."""
    root = _import(package, where, faults)
    if root is None:
        return []
    # A package that cannot be imported is a fault of `_import`; walking on must not raise it once more.
    below = pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}.", onerror=lambda _: None)
    # A `__main__` is a program: importing it would run it.
    names = sorted(info.name for info in below if not info.name.endswith(".__main__"))
    return [root, *filter(None, (_import(name, where, faults) for name in names))]


def classes_below(modules: list[ModuleType]) -> Iterator[type[Any]]:
    """The classes defined in these modules, in the order of their definition."""
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield value


def type_arguments(found: type[Any], base: type[Any]) -> set[tuple[Any, ...]]:
    """Every list of type arguments with which `found` is a `base`; without brackets it is an empty list."""
    return {arguments for arguments in _arguments(found, base, {}) if not _has_variables(arguments)}


def _arguments(found: type[Any], base: type[Any], bound: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    for parent in found.__dict__.get("__orig_bases__", found.__bases__):
        origin = get_origin(parent) or parent
        arguments = tuple(bound.get(argument, argument) for argument in get_args(parent))
        if origin is base:
            yield arguments
        elif isinstance(origin, type) and origin is not Generic and issubclass(origin, base):
            yield from _arguments(
                origin, base, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
            )


def _has_variables(arguments: tuple[Any, ...]) -> bool:
    return any(type(argument).__name__ == "TypeVar" for argument in arguments)


def is_concrete(found: type[Any]) -> bool:
    """Whether instances can be made: not abstract, and not a generic base for others."""
    return not inspect.isabstract(found) and not getattr(found, "__parameters__", ())


def _import(name: str, where: str, faults: list[Fault]) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - whatever a module raises is a fault of the wiring
        what = f"importing {name} failed with {type(error).__name__}: {error}"
        faults.append(Fault("import", where, what, "Correct the module, or the name of the package"))
        return None
