"""Applications for tests: modules made of classes instead of packages, one database file each."""

import sys
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from types import ModuleType
from typing import Any

from mediator import MediatorApp, MediatorSettings, Module

__all__ = ["AppFactory", "module_of", "quick_settings"]

AppFactory = Callable[..., MediatorApp]
_number = count(1)


def module_of(name: str, *classes: Any, **options: Any) -> Module:
    """A module that consists of `classes` (and upcasters), in a package made for it."""
    package = ModuleType(f"tests_made_{name.replace('-', '_')}_{next(_number)}")
    for position, one in enumerate(classes):
        if isinstance(one, type):
            one.__module__ = package.__name__
        setattr(package, getattr(one, "__name__", f"value_{position}"), one)
    sys.modules[package.__name__] = package
    return Module(name, package=package.__name__, **options)


def quick_settings(**changes: Any) -> MediatorSettings:
    """Settings that poll often, so that tests need not wait for a second."""
    quick = {
        "relay": {"poll": timedelta(milliseconds=50)},
        "consumer": {"retry_poll": timedelta(milliseconds=50)},
        "drain_on_stop": timedelta(seconds=5),
    }
    return MediatorSettings.model_validate({**quick, **changes})
