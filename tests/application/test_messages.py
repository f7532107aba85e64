import dataclasses
from dataclasses import dataclass
from uuid import uuid4

import pytest

from contracts import IntegrationEvent
from mediator import Command, MessageContext, Outgoing, WithEvents
from mediator.application import Validator, Validators


@dataclass(frozen=True)
class Open(Command[str]):
    owner: str


class Urgent(Open):
    pass


def test_a_result_carries_its_events_in_their_order() -> None:
    first, second = IntegrationEvent(), Outgoing(IntegrationEvent())
    answer = WithEvents("result", first, second)

    assert (answer.result, answer.events) == ("result", (first, second))
    assert WithEvents(None).events == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.result = "other"  # type: ignore[misc]


def test_what_is_outgoing_says_nothing_by_default() -> None:
    outgoing = Outgoing(IntegrationEvent())

    assert (outgoing.headers, outgoing.key, outgoing.topic) == ({}, None, None)
    assert (outgoing.delay, outgoing.at) == (None, None)


def test_a_context_does_not_change() -> None:
    context = MessageContext(message_id=uuid4(), message_type="Open", correlation_id="c")

    assert (context.attempt, context.subscriber_id, context.headers) == (1, None, {})
    with pytest.raises(TypeError):
        context.headers["a"] = "b"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.attempt = 2  # type: ignore[misc]


class OwnerIsGiven(Validator[Open]):
    def validate(self, message: Open) -> list[str]:
        return [] if message.owner else ["owner: must not be empty"]


class NothingIsUrgent(Validator[Urgent]):
    def validate(self, message: Urgent) -> list[str]:
        return ["nothing is urgent"]


@pytest.mark.parametrize(
    ("message", "problems"),
    [
        (Open("Ada"), []),
        (Open(""), ["owner: must not be empty"]),
        (Urgent(""), ["nothing is urgent", "owner: must not be empty"]),
        ("another message", []),
    ],
)
def test_validators_of_the_type_and_its_bases_are_asked(message: object, problems: list[str]) -> None:
    validators = Validators({Open: [OwnerIsGiven()], Urgent: [NothingIsUrgent()]})

    assert validators.problems_of(message) == problems
