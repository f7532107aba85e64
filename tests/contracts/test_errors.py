"""An error says what, where and what to do, and carries these as attributes."""

import pickle

import pytest

from contracts import (
    ContractError,
    DeprecationError,
    NotSimpleError,
    PartitionKeyError,
    ReservedFieldError,
    TopicError,
    UnresolvedTypeError,
    UpcasterError,
)

ERRORS = [
    ContractError("here", "it is wrong", "mend it"),
    TopicError("here", "it is wrong", "mend it"),
    DeprecationError("here", "it is wrong", "mend it"),
    PartitionKeyError("here", "it is wrong", "mend it"),
    UpcasterError("here", "it is wrong", "mend it"),
    ReservedFieldError("here", "event_id", "it is wrong", "mend it"),
    NotSimpleError("here", "lines[]", "it is wrong", "mend it"),
    UnresolvedTypeError("here", "lines[]", "it is wrong", "mend it"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_carries_its_facts(error: ContractError) -> None:
    assert (error.where, error.problem, error.advice) == ("here", "it is wrong", "mend it")
    assert str(error).startswith("here")
    assert str(error).endswith(": it is wrong; mend it")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_can_be_sent_to_another_process(error: ContractError) -> None:
    received = pickle.loads(pickle.dumps(error))

    assert type(received) is type(error)
    assert vars(received) == vars(error)


def test_a_contract_error_is_not_taken_for_a_wrong_value() -> None:
    assert not issubclass(ContractError, ValueError)
