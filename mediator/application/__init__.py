"""What use cases import: messages, handlers, converters, behaviours, middleware, the unit of work as they see it."""

from mediator.application.behaviors import LoggingBehavior, PipelineBehavior, ValidationBehavior, Validator, Validators
from mediator.application.circuit_breaker import CircuitBreaker
from mediator.application.context import MessageContext, Response
from mediator.application.converters import IntegrationEventConverter, Outgoing, Publishable
from mediator.application.environments import EnvironmentRouting
from mediator.application.handlers import (
    BatchIntegrationEventHandler,
    CommandHandler,
    DomainEventHandler,
    IntegrationEventHandler,
    QueryHandler,
    StreamQueryHandler,
)
from mediator.application.messages import Command, Query, StreamQuery, WithEvents
from mediator.application.middleware import ContextPropagation, HandlingMiddleware, PublishingMiddleware
from mediator.application.ports import IntegrationEventPublisher, Mediator, UnitOfWork
from mediator.application.retry import RetryPolicy

__all__ = [
    "BatchIntegrationEventHandler",
    "CircuitBreaker",
    "Command",
    "CommandHandler",
    "ContextPropagation",
    "DomainEventHandler",
    "EnvironmentRouting",
    "HandlingMiddleware",
    "IntegrationEventConverter",
    "IntegrationEventHandler",
    "IntegrationEventPublisher",
    "LoggingBehavior",
    "Mediator",
    "MessageContext",
    "Outgoing",
    "PipelineBehavior",
    "Publishable",
    "PublishingMiddleware",
    "Query",
    "QueryHandler",
    "Response",
    "RetryPolicy",
    "StreamQuery",
    "StreamQueryHandler",
    "UnitOfWork",
    "ValidationBehavior",
    "Validator",
    "Validators",
    "WithEvents",
]
