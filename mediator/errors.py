"""Every error of the toolkit, in one tree.

    MediatorError
    ├── ConfigurationError             raised at start: nothing has run yet
    │   ├── WiringError                every fault of the wiring at once
    │   ├── SettingsError              an argument of MediatorApp, Module or a handler's attribute
    │   ├── SchemaError                the toolkit's tables are missing, of another version, or another's
    │   ├── DatabaseUnavailableError   the database cannot be used
    │   ├── BrokerError                the broker of a transport cannot be used
    │   ├── ExampleRefusedError        an author's example of an event that its contract refuses
    │   └── BaselineError              the baseline of contracts is damaged, or not where it is looked for
    ├── UsageError                     a call that cannot be right, made by the application
    │   ├── NotRunningError            the application is not started, or already stopped
    │   ├── RoleError                  this process has another role
    │   ├── HandlerNotFoundError       nobody handles this command or query
    │   ├── ValidationFailedError      validators refused a message
    │   ├── UnitOfWorkRequiredError    publishing without a unit of work
    │   ├── UnitOfWorkClosedError      using one that has ended
    │   ├── ConcurrentUseError         a second task uses a unit of work
    │   ├── OtherDatabaseError         joining a unit of work on another module's database
    │   ├── NestedCommandFailedError   committing although a nested command failed half-way
    │   ├── TransactionOwnedError      a handler commits, rolls back or closes the session
    │   ├── DomainEventOverflowError   domain events that do not come to an end
    │   ├── EventRefusedError          an integration event that cannot be published
    │   └── OperationRefusedError      an operator's action that would break a promise
    ├── CommitOutcomeUnknownError      the connection broke while committing
    ├── LockTimeoutError               somebody else holds a command's lock
    ├── DrainTimeoutError              `drained()` waited in vain
    └── DeliveryError                  one attempt failed
        ├── PermanentError             for handlers to raise: do not try again
        ├── RetryAfterError            for handlers to raise: not before some time
        ├── HandlerTimeoutError        the handler took longer than its timeout
        ├── UnreadableMessageError     bytes from the wire that are no known event
        ├── IdentityConflictError      a known event id with another content
        ├── ClaimBusyError             another transaction is handling the event: counts no attempt
        ├── TransportUnavailableError  the way to the broker is down: counts no attempt
        └── PublishRefusedError        the transport does not take this one envelope

An error carries its facts as attributes and says what happened, where, and what to do.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

__all__ = [
    "BaselineError",
    "BrokerError",
    "ClaimBusyError",
    "CommitOutcomeUnknownError",
    "ConcurrentUseError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "DeliveryError",
    "DomainEventOverflowError",
    "DrainTimeoutError",
    "EventRefusedError",
    "ExampleRefusedError",
    "Fault",
    "HandlerNotFoundError",
    "HandlerTimeoutError",
    "IdentityConflictError",
    "LockTimeoutError",
    "MediatorError",
    "NestedCommandFailedError",
    "NotRunningError",
    "OperationRefusedError",
    "OtherDatabaseError",
    "PermanentError",
    "PublishRefusedError",
    "RetryAfterError",
    "RoleError",
    "SchemaError",
    "SettingsError",
    "TransactionOwnedError",
    "TransportUnavailableError",
    "UnitOfWorkClosedError",
    "UnitOfWorkRequiredError",
    "UnreadableMessageError",
    "UsageError",
    "ValidationFailedError",
    "WiringError",
]

_short = reprlib.Repr()
_short.maxstring = 200


class MediatorError(Exception):
    """The root of the tree."""


class ConfigurationError(MediatorError):
    """Raised at start, before anything has run."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, with the wiring or with a broker: where it is, what it is, what to do."""

    kind: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


class WiringError(ConfigurationError):
    """The modules cannot work together as they are; `faults` has all of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = "\n".join(f"  {number}. [{fault.kind}] {fault}" for number, fault in enumerate(self.faults, 1))
        super().__init__(f"the wiring has {len(self.faults)} fault(s):\n{lines}")


class SettingsError(ConfigurationError):
    """A setting has a value that cannot work."""

    def __init__(self, setting: str, value: object, fix: str) -> None:
        self.setting, self.value, self.fix = setting, value, fix
        super().__init__(f"{setting} = {value!r} cannot work: {fix}")


class SchemaError(ConfigurationError):
    """The toolkit's tables are not what this version needs."""

    def __init__(self, database: str, what: str, fix: str) -> None:
        self.database, self.what, self.fix = database, what, fix
        super().__init__(f"database {database}: {what}. {fix}")


class DatabaseUnavailableError(ConfigurationError):
    """The database cannot be opened, or is of no use."""

    def __init__(self, database: str, why: str, fix: str) -> None:
        self.database, self.why, self.fix = database, why, fix
        super().__init__(f"database {database} cannot be used: {why}. {fix}")


class BrokerError(ConfigurationError):
    """The broker of a transport cannot be used as it is."""

    def __init__(self, transport: str, what: str, fix: str) -> None:
        self.transport, self.what, self.fix = transport, what, fix
        super().__init__(f"transport {transport}: {what}. {fix}")


class ExampleRefusedError(ConfigurationError):
    """An event's documents would show an example that its own contract refuses."""

    def __init__(self, event: str, place: str, why: str) -> None:
        self.event, self.place, self.why = event, place, why
        super().__init__(
            f"{event}, in its example at {place or 'the event itself'}: {why}. Correct the example in the contract's "
            f"model_config or in Field(examples=...)"
        )


class BaselineError(ConfigurationError):
    """The baseline of contracts cannot be read, written or told apart."""

    def __init__(self, where: str, what: str, fix: str) -> None:
        self.where, self.what, self.fix = where, what, fix
        super().__init__(f"baseline {where}: {what}. {fix}")


class UsageError(MediatorError):
    """The application made a call that cannot be right."""


class NotRunningError(UsageError):
    """The application has not been started, or has stopped."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} needs a running application: call it inside `async with app:`")


class RoleError(UsageError):
    """This process was started for something else."""

    def __init__(self, what: str, role: str, roles: Sequence[str]) -> None:
        self.what, self.role, self.roles = what, role, tuple(roles)
        super().__init__(
            f"{what} needs the role {role!r}, and this process has {', '.join(self.roles)}: "
            f"add it to MediatorApp(roles=...), or call it in a process that has it"
        )


class HandlerNotFoundError(UsageError):
    """Nobody handles this command or query."""

    def __init__(self, message: object, kind: str) -> None:
        self.message_type = message if isinstance(message, type) else type(message)
        name = f"{self.message_type.__module__}.{self.message_type.__qualname__}"
        super().__init__(
            f"{name} is a class: send an instance of it"
            if isinstance(message, type)
            else f"no {kind} for {name}: write a class that subclasses {kind}[{self.message_type.__name__}, ...] "
            "below the package of a module"
        )


class ValidationFailedError(UsageError):
    """Validators refused a message; `problems` has all they found."""

    def __init__(self, message_type: type, problems: Sequence[str]) -> None:
        self.message_type, self.problems = message_type, tuple(problems)
        super().__init__(f"{message_type.__name__} is not valid: {'; '.join(self.problems)}")


class UnitOfWorkRequiredError(UsageError):
    """Publishing belongs to a transaction, and there is none."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} needs a unit of work: call it in a handler or inside `async with app.unit_of_work(...)`, "
            "or use app.publish_in_own_transaction(...) if nothing else has to commit with it"
        )


class UnitOfWorkClosedError(UsageError):
    """The unit of work has ended."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: this unit of work has ended; do it before the block or the handler returns")


class ConcurrentUseError(UsageError):
    """Two tasks use one unit of work."""

    def __init__(self, owner: str, intruder: str) -> None:
        self.owner, self.intruder = owner, intruder
        super().__init__(
            f"task {intruder!r} uses the unit of work of task {owner!r}: a session serves one task at a time. "
            "Await one after the other, use asyncio.timeout() instead of asyncio.wait_for(), "
            "or give the other task a unit of work of its own"
        )


class OtherDatabaseError(UsageError):
    """A unit of work cannot be joined from a module with another database."""

    def __init__(self, what: str, module: str, database: str, joined: str) -> None:
        self.what, self.module, self.database, self.joined = what, module, database, joined
        super().__init__(
            f"{what} inside a unit of work on database {joined}, but module {module!r} has {database}: "
            "one transaction cannot span both. Publish an integration event for that module, "
            "or do it after this unit of work has ended"
        )


class NestedCommandFailedError(UsageError):
    """A nested command failed, its error was caught, and what it had done by then would have been committed."""

    def __init__(self, command: str) -> None:
        self.command = command
        super().__init__(
            f"the nested command {command} failed and its error was caught: the unit of work would commit half of it. "
            "Send it inside `async with uow.savepoint():`, or let the error pass"
        )


class TransactionOwnedError(UsageError):
    """The transaction belongs to the unit of work."""

    def __init__(self, call: str) -> None:
        self.call = call
        super().__init__(
            f"session.{call}() inside a unit of work: the unit of work commits when its block ends and rolls back "
            "when it raises. Remove the call, or use `async with uow.savepoint():` for a part that may fail"
        )


class DomainEventOverflowError(UsageError):
    """Handlers raise domain events without an end."""

    def __init__(self, limit: str, bound: int, chain: Sequence[str]) -> None:
        self.limit, self.bound, self.chain = limit, bound, tuple(chain)
        super().__init__(
            f"domain events exceed the {limit} of {bound} for one unit of work, by way of {' -> '.join(self.chain)}: "
            "a handler raises an event that leads back to itself, or the work belongs into several units of work"
        )


class EventRefusedError(UsageError):
    """An integration event cannot be published as it is."""

    def __init__(self, event_type: str, what: str, fix: str) -> None:
        self.event_type, self.what, self.fix = event_type, what, fix
        super().__init__(f"{event_type} cannot be published: {what}. {fix}")


class OperationRefusedError(UsageError):
    """An operator's action would break a promise, or has nothing to act on."""

    def __init__(self, action: str, subject: str, why: str, fix: str) -> None:
        self.action, self.subject, self.why, self.fix = action, subject, why, fix
        super().__init__(f"{action} of {subject} refused: {why}. {fix}")


class CommitOutcomeUnknownError(MediatorError):
    """The connection broke while the commit was on its way: it may have happened or not."""

    def __init__(self, unit_of_work: str) -> None:
        self.unit_of_work = unit_of_work
        super().__init__(
            f"the commit of {unit_of_work} may or may not have happened: the connection broke while it was on its way. "
            "Look before you repeat it, or repeat it with an idempotent command"
        )


class LockTimeoutError(MediatorError):
    """Another unit of work holds a lock for longer than this one was ready to wait; nothing was changed."""

    def __init__(self, key: str, timeout: timedelta) -> None:
        self.key, self.timeout = key, timeout
        super().__init__(
            f"the lock {_short.repr(key)} was not obtained within {timeout.total_seconds():g} s: "
            "another unit of work holds it. Try again later, or give the handler a longer lock_timeout"
        )


class DrainTimeoutError(MediatorError):
    """Something was still pending when the time was over."""

    def __init__(self, timeout: timedelta, pending: str) -> None:
        self.timeout, self.pending = timeout, pending
        super().__init__(
            f"not drained within {timeout.total_seconds():g} s; still pending: {pending}. "
            "Look at app.dead_letters and at the log of the handlers, or give a longer timeout"
        )


class DeliveryError(MediatorError):
    """One attempt failed."""


class PermanentError(DeliveryError):
    """Raise it (or a subclass) in a handler: trying again cannot help, so the delivery dies at once."""


class RetryAfterError(DeliveryError):
    """Raise it in a handler: what it needs is not to be had before `retry_after` is over. The attempt counts."""

    def __init__(self, retry_after: timedelta, why: str = "not to be had now") -> None:
        self.retry_after = retry_after
        super().__init__(f"{why}; not before {retry_after.total_seconds():g} s")


class HandlerTimeoutError(DeliveryError):
    """The handler took longer than its timeout; what it did was rolled back."""

    def __init__(self, subscriber_id: str, timeout: timedelta) -> None:
        self.subscriber_id, self.timeout = subscriber_id, timeout
        super().__init__(
            f"{subscriber_id} took longer than {timeout.total_seconds():g} s and was rolled back; "
            "make it faster, set its `timeout`, or move slow work out of the transaction"
        )


class UnreadableMessageError(DeliveryError):
    """What came over the wire is no event that this application knows."""

    def __init__(self, reason: str, where: str, what: str) -> None:
        self.reason, self.where, self.what = reason, where, what
        super().__init__(f"unreadable message ({reason}) at {where}: {what}")


class IdentityConflictError(DeliveryError):
    """An event id that this subscriber knows arrived with another content."""

    def __init__(self, subscriber_id: str, event_id: object) -> None:
        self.subscriber_id, self.event_id = subscriber_id, event_id
        super().__init__(
            f"event {event_id} reached {subscriber_id} before with another content: kept as a dead letter. "
            "Find out which publisher reuses event ids"
        )


class ClaimBusyError(DeliveryError):
    """Another transaction has claimed the event and not ended yet; tried again soon, and no attempt is counted."""

    def __init__(self, subscriber_id: str, event_id: object) -> None:
        self.subscriber_id, self.event_id = subscriber_id, event_id
        super().__init__(f"event {event_id} is being handled by {subscriber_id} elsewhere: it is tried again soon")


class TransportUnavailableError(DeliveryError):
    """The way to the broker is down; nothing is wrong with the envelope, so no attempt is counted."""

    def __init__(self, transport: str, why: str) -> None:
        self.transport, self.why = transport, why
        super().__init__(f"transport {transport} is not reachable: {why}")


class PublishRefusedError(DeliveryError):
    """The transport did not take this envelope."""

    def __init__(self, transport: str, topic: str, why: str) -> None:
        self.transport, self.topic, self.why = transport, topic, why
        super().__init__(f"transport {transport} refused an envelope for {topic}: {why}")
