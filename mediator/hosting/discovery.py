"""Discovery: every module below a package is imported, and the concrete classes defined there are taken.

What a class handles is read from its type arguments, through any number of generic bases in between.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, get_args, get_origin

from mediator.errors import Fault

__all__ = ["classes_below", "import_below", "import_one", "is_concrete", "is_unfinished", "type_arguments"]


def import_below(package: str, exclude: Collection[str], where: str, faults: list[Fault]) -> list[ModuleType]:
    """Import `package` and all below it but `exclude`, in the order of names; what cannot be imported is a fault."""
    module = import_one(package, where, faults)
    if module is None:
        return []
    below = (f"{package}.{name}" for name in sorted(_children(getattr(module, "__path__", ()))))
    return [
        module,
        *(found for name in below if name not in exclude for found in import_below(name, exclude, where, faults)),
    ]


def classes_below(modules: list[ModuleType]) -> Iterator[type[Any]]:
    """The classes defined in these modules, in the order of their definition, each once."""
    for module in modules:
        # A class may have a second name, left behind by a rename.
        for value in dict.fromkeys(value for value in vars(module).values() if isinstance(value, type)):
            if value.__module__ == module.__name__:
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


def is_unfinished(found: type[Any]) -> bool:
    """Whether a class says what it handles but lacks the method for it, and is no base of others."""
    return inspect.isabstract(found) and not getattr(found, "__parameters__", ()) and not found.__subclasses__()


def _children(paths: Iterable[str]) -> set[str]:
    names = {info.name for info in pkgutil.iter_modules(paths)}
    # A folder without `__init__.py` is a package too; pkgutil does not see it.
    for path in paths:
        for folder in Path(path).iterdir() if Path(path).is_dir() else ():
            if folder.is_dir() and folder.name.isidentifier() and next(folder.rglob("*.py"), None) is not None:
                names.add(folder.name)
    # A `__main__` is a program: importing it would run it.
    return names - {"__main__", "__pycache__"}


def import_one(name: str, where: str, faults: list[Fault]) -> ModuleType | None:
    """Import a module; what cannot be imported is a fault."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module raises is a fault of the wiring
        what = f"importing {name} failed with {type(error).__name__}: {error}"
        faults.append(Fault("import", where, what, "Correct the module, or the name of the package"))
        return None
