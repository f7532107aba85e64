"""Each message of the corpus has its reason, costs little, and gets nothing looked up by name."""

import sys
from collections import Counter
from types import FrameType
from typing import Any
from uuid import UUID

import pytest

from mediator.clock import Runtime
from mediator.consuming.reading import Reader
from mediator.errors import UnreadableMessageError
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.foreign import ForeignSettings
from mediator.messaging.limits import Limits
from mediator.messaging.transport import Delivery
from mediator.observability import Counters
from mediator.storage.database import Database
from tests.corpus.cases import CASES, FINE, FOLDERS, Case, carried
from tests.corpus.events import EVENTS, NEWEST, UPCASTERS

MOST_LINES = 3
"""Of Python that are run for a byte of a message."""
TRAP = "tests.corpus.trap"


async def nobody(_subscriber_id: str, _event_id: UUID) -> None:
    """Nothing dies of being read."""


READER = Reader(
    "depot",
    EventCatalog(EVENTS, UPCASTERS, "test"),
    Limits(),
    ForeignSettings(),
    Database("sqlite+aiosqlite://"),
    Runtime(),
    nobody,
    Counters(),
)


def read(case: Case) -> str:
    """Read as a consumer and its handlers do; gives the reason."""
    delivery = Delivery(topic=case.topic, headers=carried(case.headers), body=case.body)
    try:
        received = READER.read(delivery)
        for wanted in NEWEST:
            if received.readable_as(wanted):
                received.as_class(wanted)
    except UnreadableMessageError as error:
        return error.reason
    return FINE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_message_is_read_or_has_its_reason(case: Case) -> None:
    assert read(case) == case.reason, case.why


@pytest.mark.parametrize("case", [case for case in CASES if len(case.body) > 10_000], ids=str)
def test_a_large_message_costs_little(case: Case) -> None:
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        read(case)
    finally:
        sys.settrace(before)

    assert lines < MOST_LINES * len(case.body)


def test_nothing_is_imported_by_name() -> None:
    # What reading itself needs is there after the first of each form; Python loads its reader of times when it is used.
    for case in [*CASES[:2], *(case for case in CASES if case.name == "envelope/cap")]:
        read(case)
    before = set(sys.modules)

    for case in CASES:
        read(case)

    assert sorted(set(sys.modules) - before) == []
    assert TRAP not in sys.modules
    assert sum(TRAP in str(case.headers) or TRAP.encode() in case.body for case in CASES) >= 10


def test_the_corpus_is_whole() -> None:
    folders = Counter(case.name.partition("/")[0] for case in CASES)

    assert folders.total() >= 150
    assert set(folders) == set(FOLDERS)
    assert min(folders.values()) >= 20
    assert all(case.why.endswith(".") for case in CASES)


def test_the_corpus_knows_every_reason() -> None:
    """A reason that no file has is one that nothing tries."""
    assert {case.reason for case in CASES} == {
        FINE,
        "callback",
        "content type",
        "encoding",
        "header missing",
        "headers",
        "identity",
        "json",
        "schema",
        "specversion",
        "text",
        "time",
        "too deep",
        "too large",
        "too many nodes",
        "type",
        "unknown type",
        "upcaster",
    }
