"""Pipeline behaviours: what happens around every command and query.

    class Timing(PipelineBehavior):
        async def handle(self, message, proceed):
            started = monotonic()
            try:
                return await proceed()
            finally:
                log.info("timed", seconds=monotonic() - started)

    MediatorApp(..., behaviors=[LoggingBehavior, ValidationBehavior, Timing])

The transaction stands in the middle: behaviours with `inside_transaction = False` wrap it, the others run in it and
may have the session injected. Within both groups the order is the one given.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import structlog

from mediator.errors import ValidationFailedError

__all__ = ["LoggingBehavior", "PipelineBehavior", "Proceed", "ValidationBehavior", "Validator", "Validators"]

Proceed = Callable[[], Awaitable[Any]]
M_contra = TypeVar("M_contra", contravariant=True)
log = structlog.get_logger(__name__)


class PipelineBehavior(ABC):
    """Stands around the handling of every command and query."""

    inside_transaction: ClassVar[bool] = True

    @abstractmethod
    async def handle(self, message: Any, proceed: Proceed) -> Any:
        """Do something, `await proceed()` for the rest of the way, and give a result."""


class Validator(ABC, Generic[M_contra]):
    """Checks one kind of command or query before its transaction begins; found automatically."""

    @abstractmethod
    def validate(self, message: M_contra, /) -> Iterable[str]:
        """Every problem, as a sentence with the path of the value; none when the message is valid."""


class Validators:
    """The validators that were found, by the message type they check; bound by the application."""

    def __init__(self, by_type: Mapping[type, Sequence[Validator[Any]]]) -> None:
        self._by_type = by_type

    def problems_of(self, message: object) -> list[str]:
        """What all validators of the message's type (or a base of it) find."""
        found = (validator for kind in type(message).__mro__ for validator in self._by_type.get(kind, ()))
        return [problem for validator in found for problem in validator.validate(message)]


class LoggingBehavior(PipelineBehavior):
    """Logs what was sent and how it ended, without its content."""

    inside_transaction = False

    async def handle(self, message: Any, proceed: Proceed) -> Any:
        """Log around `proceed`."""
        name = type(message).__name__
        try:
            result = await proceed()
        except Exception as error:
            log.warning("message.failed", message_type=name, error=type(error).__name__)
            raise
        log.info("message.handled", message_type=name)
        return result


class ValidationBehavior(PipelineBehavior):
    """Asks every validator of the message's type and refuses it with all their problems."""

    inside_transaction = False

    def __init__(self, validators: Validators) -> None:
        self._validators = validators

    async def handle(self, message: Any, proceed: Proceed) -> Any:
        """Validate before `proceed`."""
        problems = self._validators.problems_of(message)
        if problems:
            raise ValidationFailedError(type(message), problems)
        return await proceed()
