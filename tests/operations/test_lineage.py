from dataclasses import dataclass

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Command, CommandHandler, DomainEvent, IntegrationEventConverter, MediatorApp
from mediator.errors import EventRefusedError
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener, writes
from tests.support import Account, AppFactory, module_of


@dataclass(frozen=True)
class Note(Command[None]):
    text: str


@dataclass(frozen=True)
class Noted(DomainEvent):
    text: str


class NoteHandler(CommandHandler[Note, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, command: Note) -> None:
        account = Account(owner="Ada")
        account.record_event(Noted(command.text))
        self.session.add(account)


class NotedConverter(IntegrationEventConverter[Noted, NotedV1]):
    def convert(self, event: Noted) -> NotedV1:
        return NotedV1(text=event.text)


def fails(_handler: object, _event: object) -> None:
    raise LookupError("no")


def app_of(make_app: AppFactory) -> MediatorApp:
    return make_app(
        module_of("bank", Note, NoteHandler, Noted, NotedConverter),
        module_of(
            "mail",
            listener("Answer", lambda _handler, event: RemarkedV1(text=event.text)),
            listener("Fail", fails, retry=at_once(1)),
        ),
        module_of("audit", listener("Keep", writes, RemarkedV1)),
    )


async def test_all_that_a_command_set_off_is_one_tree(make_app: AppFactory) -> None:
    async with app_of(make_app) as app:
        await app.mediator.send(Note("x"), correlation_id="request-7")
        await app.mediator.send(Note("y"), correlation_id="request-8")
        await app.drained()

        (tree,) = await app.lineage("request-7")

    lines = list(tree.lines())
    assert lines[0] == "command Note"
    assert lines[1].startswith("  event bank.noted.v1 (Noted of Account ")
    assert lines[1].endswith(", by NotedConverter)")
    assert lines[2:] == [
        "    handler mail.answer",
        "      event bank.remarked.v1",
        "        handler audit.keep",
        "    handler mail.fail (dead)",
    ]


async def test_two_commands_of_one_correlation_are_two_trees(make_app: AppFactory) -> None:
    async with app_of(make_app) as app:
        for text in ("x", "y"):
            await app.mediator.send(Note(text), correlation_id="request-7")
        await app.drained()

        assert [(tree.kind, tree.name) for tree in await app.lineage("request-7")] == [("command", "Note")] * 2


async def test_what_is_not_sent_yet_is_in_the_tree(make_app: AppFactory) -> None:
    async with app_of(make_app) as app:
        app.pause("mail.answer")
        await app.mediator.send(Note("x"), correlation_id="request-7")
        await app.drained()

        (tree,) = await app.lineage("request-7")
        assert "    handler mail.answer (retry)" in list(tree.lines())


async def test_an_unknown_correlation_has_no_tree(make_app: AppFactory) -> None:
    async with app_of(make_app) as app:
        assert await app.lineage("nobody") == []


async def test_modules_with_databases_of_their_own_are_one_tree(make_app: AppFactory, database_url: str) -> None:
    other = database_url.replace("test.db", "other.db")
    app = make_app(
        module_of("bank", Note, NoteHandler, Noted, NotedConverter),
        module_of("mail", listener("Answer", lambda *_: RemarkedV1()), database=other),
        module_of("audit", listener("Keep", lambda *_: None, RemarkedV1)),
    )
    async with app:
        await app.mediator.send(Note("x"), correlation_id="request-7")
        await app.drained()

        (tree,) = await app.lineage("request-7")

    assert [line.partition(" (")[0] for line in tree.lines()] == [
        "command Note",
        "  event bank.noted.v1",
        "    handler mail.answer",
        "      event bank.remarked.v1",
        "        handler audit.keep",
    ]


@pytest.mark.parametrize("correlation_id", ["", "x" * 201, "a\nb"])
async def test_a_correlation_id_that_cannot_travel_is_refused(make_app: AppFactory, correlation_id: str) -> None:
    async with app_of(make_app) as app:
        with pytest.raises(EventRefusedError, match="correlation id is empty, too long or not printable"):
            await app.mediator.send(Note("x"), correlation_id=correlation_id)
