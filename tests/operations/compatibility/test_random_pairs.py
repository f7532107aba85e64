"""Pairs of events that nobody thought of: a pair that is called readable never fails.

An instance counts when its own class can read it back. `HYPOTHESIS_PROFILE=thorough` tries 5,000 pairs.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from contracts import ContractError
from mediator.operations.compatibility import can_read, schemas_of
from tests.operations.compatibility.plans import EVENTS, Plan, changed_model
from tests.operations.compatibility.random_models import event, model_values

# Random classes have what an author would be warned of.
pytestmark = pytest.mark.filterwarnings("ignore::contracts.ContractWarning")


def made(plan: Plan) -> type[BaseModel]:
    """The event; hypothesis looks for another where pydantic or the contracts refuse the plan."""
    try:
        return event(plan)
    except (ContractError, TypeError):
        assume(False)
        raise


def body_of(event_class: type[BaseModel], data: object) -> bytes | None:
    try:
        body: bytes = event_class.__pydantic_serializer__.to_json(event_class.model_validate(data))
        event_class.model_validate_json(body)
    except ValidationError:
        return None
    return body


@settings(suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_called_readable_is_read(data: st.DataObject) -> None:
    plan = data.draw(EVENTS)
    writer, reader = made(plan), made(data.draw(changed_model(plan)))
    assume(not can_read(schemas_of(reader).reads, schemas_of(writer).writes))

    for _ in range(3):
        body = body_of(writer, data.draw(model_values(plan)))
        if body is not None:
            assert isinstance(reader.model_validate_json(body), reader)


def test_enough_of_the_pairs_are_readable_and_made() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=60, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def look(data: st.DataObject) -> None:
        plan = data.draw(EVENTS)
        writer, reader = made(plan), made(data.draw(changed_model(plan)))
        gaps = can_read(schemas_of(reader).reads, schemas_of(writer).writes)
        seen["unreadable" if gaps else "readable"] += 1
        seen["instances"] += body_of(writer, data.draw(model_values(plan))) is not None

    look()

    assert min(seen["readable"], seen["unreadable"]) > 10
    assert seen["instances"] > 15
