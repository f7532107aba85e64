"""The composition root: modules are discovered, wired, checked, started and stopped here."""

from mediator.hosting.app import MediatorApp
from mediator.hosting.blocking import BlockingMediator
from mediator.hosting.injection import UnitOfWorkScope, unit_of_work_scope
from mediator.hosting.module import Module
from mediator.hosting.settings import MediatorSettings

__all__ = ["BlockingMediator", "MediatorApp", "MediatorSettings", "Module", "UnitOfWorkScope", "unit_of_work_scope"]
