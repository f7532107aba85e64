"""What people are shown of a dead letter is masked as its contract says; the body stays what it was."""

import traceback
from typing import Annotated, Any

import pytest
from pydantic import Field

from contracts import IntegrationEvent, Sensitive, event_topic
from mediator import MediatorSettings
from mediator.errors import EventRefusedError, OperationRefusedError
from tests.consuming.notes import at_once, listener
from tests.promises.arrivals import WireTransport, raw_headers
from tests.support import AppFactory, module_of, quick_settings

# What is shown does not depend on where it is stored.
pytestmark = pytest.mark.databases("sqlite")
SECRET = "ann@example.org"


@event_topic("people", domain="bank")
class MovedV1(IntegrationEvent):
    email: Annotated[str, Field(max_length=100), Sensitive()]
    number: int = 0


def fails(handler: Any, event: MovedV1) -> None:
    raise LookupError("no such person")


FAILING = listener("Send", fails, MovedV1, retry=at_once(1))


async def test_a_letter_is_shown_without_what_is_sensitive(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", FAILING)) as app:
        await app.publish_in_own_transaction(MovedV1(email=SECRET, number=7))
        await app.drained()
        (letter,) = await app.dead_letters.list()

    assert (letter.shown["email"], letter.shown["number"]) == ("***", 7)
    assert SECRET not in repr(letter)
    assert SECRET.encode() in letter.body


async def test_letters_are_listed_without_reading_their_bodies(make_app: AppFactory, monkeypatch: Any) -> None:
    def read(*_arguments: Any) -> Any:
        raise AssertionError("a body may take long to read")

    async with make_app(module_of("mail", FAILING)) as app:
        await app.publish_in_own_transaction(MovedV1(email=SECRET, number=7))
        await app.drained()
        monkeypatch.setattr("mediator.operations.letters.masked", read)

        (letter,) = await app.dead_letters.list()

    with pytest.raises(AssertionError, match="long to read"):
        _ = letter.shown


@pytest.mark.parametrize(("name", "body"), [("bank.moved.v9", b'{"email": "x"}'), ("bank.moved.v1", b"x"), ("", b"{}")])
async def test_what_nobody_can_judge_is_not_shown(make_app: AppFactory, name: str, body: bytes) -> None:
    wire = WireTransport()
    async with make_app(module_of("mail", FAILING), transport=wire) as app:
        await wire.inject("shop.mail", "test.bank.public.people.v1", raw_headers(name), body)
        await app.drained()
        (letter,) = await app.dead_letters.list()

    assert letter.shown is None
    assert letter.body == body


async def test_what_does_not_fit_is_shown_masked_and_its_error_tells_no_value(make_app: AppFactory) -> None:
    wire, body = WireTransport(), f'{{"email": ["{SECRET}"], "number": 1}}'.encode()
    async with make_app(module_of("mail", FAILING), transport=wire) as app:
        await wire.inject("shop.mail", "test.bank.public.people.v1", raw_headers("bank.moved.v1"), body)
        await app.drained()
        (letter,) = await app.dead_letters.list()

    assert letter.shown == {"email": "***", "number": 1}
    assert SECRET not in repr(letter)


async def test_a_refused_edit_tells_no_value(make_app: AppFactory) -> None:
    settings: MediatorSettings = quick_settings(allow_edited_replay=True)
    async with make_app(module_of("mail", FAILING), settings=settings) as app:
        await app.publish_in_own_transaction(MovedV1(email="x"))
        await app.drained()
        (letter,) = await app.dead_letters.list()
        with pytest.raises(OperationRefusedError) as refused:
            await app.dead_letters.edit_and_replay(letter.position, {"email": [SECRET]}, reason="moved")

    assert SECRET not in "".join(traceback.format_exception(refused.value))


async def test_a_refused_publication_tells_no_value(make_app: AppFactory) -> None:
    event = MovedV1(email="x").model_copy(update={"email": SECRET * 9})
    async with make_app(module_of("mail", FAILING)) as app:
        with pytest.raises(EventRefusedError) as refused:
            await app.publish_in_own_transaction(event)

    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert "email" in str(refused.value)
