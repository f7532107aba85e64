"""Applications that are wired and never started, and what is wrong with them."""

from typing import Any

import pytest

from mediator import MediatorApp, Module, WiringError
from mediator.errors import Fault
from tests.support import module_of

__all__ = ["app_of", "fault_of", "faults_of"]


def app_of(*modules: Module, **options: Any) -> MediatorApp:
    """An application of which only the wiring is looked at."""
    return MediatorApp("shop", modules=modules, **{"database": "sqlite+aiosqlite://", "environment": "test", **options})


def faults_of(*modules: Module, **options: Any) -> list[Fault]:
    """Everything that is wrong with the wiring."""
    with pytest.raises(WiringError) as caught:
        _ = app_of(*modules, **options).registry
    for fault in caught.value.faults:
        assert str(fault) in str(caught.value)
    return list(caught.value.faults)


def fault_of(*classes: Any) -> Fault:
    """The one thing that is wrong with a module of these classes."""
    (fault,) = faults_of(module_of("bank", *classes))
    return fault
