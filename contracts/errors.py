"""What can be wrong with a contract.

    ContractError
    ├── TopicError               the class states no topic, or one that cannot be an address
    ├── DeprecationError         a deprecation that ends before it begins, or leads nowhere
    ├── PartitionKeyError        a key field cannot be a key, or a value has no canonical form
    ├── ReservedFieldError       a contract redefines event_id, occurred_on or correlation_id
    ├── NotSimpleError           a field carries something that is not a plain value
    │   └── UnresolvedTypeError  a forward reference cannot be followed yet
    └── UpcasterError            an upcaster does not lead from an older version to a newer one

They are the author's mistakes, found when the contract is defined or the host starts. A wrong *value* raises pydantic's
ValidationError. None of them is a ValueError: pydantic would swallow it into a ValidationError.
"""

__all__ = [
    "ContractError",
    "DeprecationError",
    "NotSimpleError",
    "PartitionKeyError",
    "ReservedFieldError",
    "TopicError",
    "UnresolvedTypeError",
    "UpcasterError",
]


class ContractError(Exception):
    """A contract is wrong: what, where, and what to do about it."""

    def __init__(self, where: str, problem: str, advice: str) -> None:
        super().__init__(where, problem, advice)
        self.where = where
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.advice}"


class TopicError(ContractError):
    """A topic is missing, or cannot be part of an address."""


class DeprecationError(ContractError):
    """A deprecation has no days that make sense, or names a replacement that is none."""


class PartitionKeyError(ContractError):
    """A partition key is declared wrongly, or a value has no canonical form."""


class ReservedFieldError(ContractError):
    """A contract redefines one of the fields that every integration event has."""

    def __init__(self, where: str, field: str, problem: str, advice: str) -> None:
        super().__init__(where, problem, advice)
        self.args = (where, field, problem, advice)
        self.field = field


class NotSimpleError(ContractError):
    """A field of an integration event carries something that is not a plain value."""

    def __init__(self, where: str, path: str, problem: str, advice: str) -> None:
        super().__init__(where, problem, advice)
        self.args = (where, path, problem, advice)
        self.path = path

    def __str__(self) -> str:
        return f"{self.where}, at {self.path}: {self.problem}; {self.advice}"


class UnresolvedTypeError(NotSimpleError):
    """A type is named that is not defined yet."""


class UpcasterError(ContractError):
    """An upcaster does not lead from an older version of an event to a newer one."""
