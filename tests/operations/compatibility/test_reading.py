"""The table of cases, and its proof: what is called readable is read, and what is not can be shown to fail."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample
from pydantic import BaseModel, ValidationError

from mediator.operations.compatibility import can_read, schemas_of
from tests.operations.compatibility.cases import CASES, Case
from tests.operations.compatibility.instances import bodies

BY_NAME = [pytest.param(case, id=case.name) for case in CASES]


def gaps(reader: type[BaseModel], writer: type[BaseModel]) -> set[tuple[str, str]]:
    return {(gap.rule, gap.path) for gap in can_read(schemas_of(reader).reads, schemas_of(writer).writes)}


def directions() -> Iterator[tuple[str, type[BaseModel], type[BaseModel], bool, bool]]:
    """Name, reader, writer, whether something is expected, and whether a failure can be shown."""
    for case in CASES:
        yield f"{case.name}, backward", case.new, case.old, bool(case.backward), "backward" not in case.unseen
        yield f"{case.name}, forward", case.old, case.new, bool(case.forward), "forward" not in case.unseen


READABLE = [pytest.param(reader, writer, id=name) for name, reader, writer, broken, _ in directions() if not broken]
UNREADABLE = [
    pytest.param(reader, writer, shown, id=name) for name, reader, writer, broken, shown in directions() if broken
]


def test_table_is_large_enough() -> None:
    assert len(CASES) * 2 >= 80
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", BY_NAME)
def test_new_class_reads_what_the_old_one_wrote(case: Case) -> None:
    assert gaps(case.new, case.old) == set(case.backward)


@pytest.mark.parametrize("case", BY_NAME)
def test_old_class_reads_what_the_new_one_writes(case: Case) -> None:
    assert gaps(case.old, case.new) == set(case.forward)


@pytest.mark.parametrize("case", BY_NAME)
def test_class_reads_itself(case: Case) -> None:
    assert gaps(case.new, case.new) == set()
    assert gaps(case.old, case.old) == set()


@pytest.mark.parametrize(("reader", "writer"), READABLE)
def test_what_is_called_readable_is_read(reader: type[BaseModel], writer: type[BaseModel]) -> None:
    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(bodies(writer))
    def is_read(body: bytes) -> None:
        assert isinstance(reader.model_validate_json(body), reader)

    is_read()


@pytest.mark.parametrize(("reader", "writer", "shown"), UNREADABLE)
def test_what_is_called_unreadable_can_be_shown_to_fail(
    reader: type[BaseModel], writer: type[BaseModel], shown: bool
) -> None:
    def fails(body: bytes) -> bool:
        try:
            reader.model_validate_json(body)
        except ValidationError:
            return True
        return False

    search = settings(max_examples=400, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    try:
        find(bodies(writer), fails, settings=search)
        found = True
    except NoSuchExample:
        found = False

    assert found is shown
