"""Looking for dead letters: by what is known of them, page by page, and in groups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mediator import MediatorApp
from mediator.errors import SettingsError
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener
from tests.operations.letters import Repairable, die, dying, positions, store
from tests.support import AppFactory, module_of


def wrong(_handler: object, _event: object) -> None:
    raise ValueError("wrong")


async def given(app: MediatorApp) -> None:
    """Three letters of a note, and one of a remark."""
    await app.publish_in_own_transaction(NotedV1(text="1", correlation_id="one"))
    await app.drained()
    await app.publish_in_own_transaction(RemarkedV1(text="2", correlation_id="two"))
    await app.drained()


def modules() -> tuple[Any, ...]:
    mail = module_of("mail", dying(Repairable()), dying(wrong, "Count", subscriber_id="tally"))
    return mail, module_of("bank", dying(wrong, "Book"), listener("Talk", wrong, RemarkedV1, retry=at_once(1)))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["bank.book", "bank.talk", "mail.send", "tally"]),
        ({"module": "mail"}, ["mail.send", "tally"]),
        ({"module": "bank"}, ["bank.book", "bank.talk"]),
        ({"subscriber_id": "tally"}, ["tally"]),
        ({"topic": "test.bank.public.remarks.v1"}, ["bank.talk"]),
        ({"reason": "failed"}, ["bank.book", "bank.talk", "mail.send", "tally"]),
        ({"reason": "not sent"}, []),
        ({"error_type": "builtins.LookupError"}, ["mail.send"]),
        ({"correlation_id": "two"}, ["bank.talk"]),
        ({"correlation_id": "one", "module": "bank"}, ["bank.book"]),
        ({"correlation_id": None, "module": None, "topic": None}, ["bank.book", "bank.talk", "mail.send", "tally"]),
    ],
    ids=repr,
)
async def test_a_letter_is_found_by_all_that_is_asked(
    make_app: AppFactory, filters: dict[str, Any], found: list[str]
) -> None:
    async with make_app(*modules()) as app:
        await given(app)
        letters = await app.dead_letters.list(**filters)

        assert sorted(letter.subscriber_id for letter in letters) == found
        assert (await app.dead_letters.select(**filters)).letters == tuple(
            (letter.position, letter.died_at) for letter in letters
        )
        assert sorted({group.subscriber_id for group in await app.dead_letters.groups(**filters)}) == found


async def test_what_a_module_could_not_read_is_its_own(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await store(app, 1, subscriber_id="@mail")
        await store(app, 1, subscriber_id="@outbox")

        assert [letter.subscriber_id for letter in await app.dead_letters.list(module="mail")] == ["@mail"]


async def test_what_is_parked_under_a_former_id_is_the_modules(make_app: AppFactory) -> None:
    mail = module_of("mail", dying(Repairable(), subscriber_id="mail.send", aliases=("mail.former",)))

    async with make_app(mail) as app:
        await store(app, 1, subscriber_id="mail.former")

        assert len(await positions(app, module="mail")) == 1


async def test_a_letter_is_found_by_when_it_died(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await die(app, "1")
        (letter,) = await app.dead_letters.list()
        died, moment = letter.died_at, timedelta(milliseconds=1)

        assert len(await positions(app, died_from=died)) == 1
        assert len(await positions(app, died_from=died, died_before=died + moment)) == 1
        assert await positions(app, died_before=died) == []
        assert await positions(app, died_from=died + moment) == []


async def test_pages_follow_one_another_without_a_gap(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        every = await store(app, 5)
        pages = [await positions(app, limit=2)]
        while pages[-1]:
            pages.append(await positions(app, limit=2, after=pages[-1][-1]))

        assert pages == [[*every[:2]], [*every[2:4]], [*every[4:]], []]


async def test_groups_are_counted_by_the_database(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", dying(Repairable()))) as app:
        await store(app, 300, fingerprint="f", error_type="E", error="no")
        await store(app, 200, fingerprint="g", error_type="E", error="no")
        groups = await app.dead_letters.groups()

        assert [(group.fingerprint, group.count) for group in groups] == [("f", 300), ("g", 200)]


async def test_a_module_that_is_not_there(make_app: AppFactory) -> None:
    async with make_app(*modules()) as app:
        with pytest.raises(SettingsError, match=r"module = 'till' cannot work: this application has mail, bank"):
            await app.dead_letters.list(module="till")


async def test_a_moment_needs_a_time_zone(make_app: AppFactory) -> None:
    async with make_app(*modules()) as app:
        with pytest.raises(SettingsError, match=r"died_from = .* cannot work: give it a time zone"):
            await app.dead_letters.select(died_from=datetime.now(UTC).replace(tzinfo=None))


@pytest.mark.parametrize("filters", [{"colour": "red"}, {"position": 1}, {"died_before": "yesterday"}], ids=repr)
async def test_what_letters_cannot_be_chosen_by_is_refused(make_app: AppFactory, filters: dict[str, Any]) -> None:
    async with make_app(module_of("mail", listener("Send", wrong))) as app:
        with pytest.raises(TypeError, match=r"cannot be chosen by .*; they can by module, subscriber_id, event_id"):
            await app.dead_letters.groups(**filters)
