"""The composition root: modules are discovered, wired, checked, started and stopped here."""

from mediator.consuming.consumer import ConsumerSettings
from mediator.hosting.app import MediatorApp
from mediator.hosting.blocking import BlockingMediator
from mediator.hosting.injection import UnitOfWorkScope, unit_of_work_scope
from mediator.hosting.module import Module
from mediator.hosting.settings import BrokerSettings, MediatorSettings
from mediator.messaging.foreign import ForeignSettings
from mediator.messaging.limits import Limits
from mediator.operations.cleaning import RetentionSettings
from mediator.operations.letters import DeadLetter, DeadLetterSelection
from mediator.operations.lineage import LineageNode
from mediator.publishing.relay import RelaySettings
from mediator.storage.database import DatabaseSettings

__all__ = [
    "BlockingMediator",
    "BrokerSettings",
    "ConsumerSettings",
    "DatabaseSettings",
    "DeadLetter",
    "DeadLetterSelection",
    "ForeignSettings",
    "Limits",
    "LineageNode",
    "MediatorApp",
    "MediatorSettings",
    "Module",
    "RelaySettings",
    "RetentionSettings",
    "UnitOfWorkScope",
    "unit_of_work_scope",
]
