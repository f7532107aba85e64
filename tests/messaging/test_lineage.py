"""For the time of a unit of work its lineage is bound, to this code and to structlog; afterwards all is as before."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

from mediator.messaging.lineage import Lineage, current_lineage, in_lineage


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


def lineage(correlation_id: str = "c") -> Lineage:
    return Lineage(correlation_id, uuid4(), "PlaceOrder")


def test_a_lineage_is_bound_to_structlog_while_it_lasts() -> None:
    bound = lineage()
    with in_lineage(bound):
        assert current_lineage() is bound
        assert get_contextvars() == {"correlation_id": "c", "causation_id": str(bound.message_id)}

    assert current_lineage() is None
    assert get_contextvars() == {}


def test_what_was_bound_before_is_restored() -> None:
    outer, inner = lineage("outer"), lineage("inner")
    with bound_contextvars(correlation_id="request", tenant="acme"):
        with in_lineage(outer):
            with in_lineage(inner):
                assert get_contextvars()["correlation_id"] == "inner"
            assert current_lineage() is outer
            assert get_contextvars()["causation_id"] == str(outer.message_id)

        assert get_contextvars() == {"correlation_id": "request", "tenant": "acme"}


def test_it_is_restored_after_an_error_too() -> None:
    with pytest.raises(ValueError, match="no"), in_lineage(lineage()):
        raise ValueError("no")

    assert current_lineage() is None
    assert get_contextvars() == {}


def test_what_the_code_inside_binds_itself_stays() -> None:
    with in_lineage(lineage()):
        bind_contextvars(order="42")

    assert get_contextvars() == {"order": "42"}


async def test_tasks_do_not_see_each_others_lineage() -> None:
    seen: dict[str, str | None] = {}
    both_are_inside = asyncio.Barrier(2)

    async def work(name: str) -> None:
        with in_lineage(lineage(name)):
            await both_are_inside.wait()
            current = current_lineage()
            seen[name] = None if current is None else current.correlation_id

    await asyncio.gather(work("one"), work("other"))

    assert seen == {"one": "one", "other": "other"}
    assert current_lineage() is None
