"""The toolkit: domain events in, integration events out, each handled once.

The public names are loaded when they are first used (PEP 562), so that `import mediator` is light and a module that
only defines commands or handlers does not load a database library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mediator.application import (
        BatchIntegrationEventHandler,
        CircuitBreaker,
        Command,
        CommandHandler,
        ContextPropagation,
        DomainEventHandler,
        EnvironmentRouting,
        HandlingMiddleware,
        IntegrationEventConverter,
        IntegrationEventHandler,
        IntegrationEventPublisher,
        LoggingBehavior,
        Mediator,
        MessageContext,
        Outgoing,
        PipelineBehavior,
        PublishingMiddleware,
        Query,
        QueryHandler,
        Response,
        RetryPolicy,
        StreamQuery,
        StreamQueryHandler,
        UnitOfWork,
        ValidationBehavior,
        Validator,
        WithEvents,
    )
    from mediator.clock import Runtime
    from mediator.domain import AggregateRoot, DomainEvent
    from mediator.errors import MediatorError, PermanentError, WiringError
    from mediator.hosting import (
        BlockingMediator,
        BrokerSettings,
        ConsumerSettings,
        DatabaseSettings,
        DeadLetter,
        DeadLetterSelection,
        ForeignSettings,
        Limits,
        LineageNode,
        MediatorApp,
        MediatorSettings,
        Module,
        RelaySettings,
        RetentionSettings,
        UnitOfWorkScope,
        unit_of_work_scope,
    )

__all__ = [
    "AggregateRoot",
    "BatchIntegrationEventHandler",
    "BlockingMediator",
    "BrokerSettings",
    "CircuitBreaker",
    "Command",
    "CommandHandler",
    "ConsumerSettings",
    "ContextPropagation",
    "DatabaseSettings",
    "DeadLetter",
    "DeadLetterSelection",
    "DomainEvent",
    "DomainEventHandler",
    "EnvironmentRouting",
    "ForeignSettings",
    "HandlingMiddleware",
    "IntegrationEventConverter",
    "IntegrationEventHandler",
    "IntegrationEventPublisher",
    "Limits",
    "LineageNode",
    "LoggingBehavior",
    "Mediator",
    "MediatorApp",
    "MediatorError",
    "MediatorSettings",
    "MessageContext",
    "Module",
    "Outgoing",
    "PermanentError",
    "PipelineBehavior",
    "PublishingMiddleware",
    "Query",
    "QueryHandler",
    "RelaySettings",
    "Response",
    "RetentionSettings",
    "RetryPolicy",
    "Runtime",
    "StreamQuery",
    "StreamQueryHandler",
    "UnitOfWork",
    "UnitOfWorkScope",
    "ValidationBehavior",
    "Validator",
    "WiringError",
    "WithEvents",
    "unit_of_work_scope",
]

_HOMES = {
    "mediator.clock": {"Runtime"},
    "mediator.domain": {"AggregateRoot", "DomainEvent"},
    "mediator.errors": {"MediatorError", "PermanentError", "WiringError"},
    "mediator.hosting": {
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
    },
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "mediator.application")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__
