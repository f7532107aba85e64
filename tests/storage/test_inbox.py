"""A subscriber takes charge of an event once; the insert decides, not a look-up."""

import asyncio
from uuid import uuid4

import pytest

from mediator.storage.database import Database
from mediator.storage.inbox import Claim, InboxTable
from tests.storage.rows import stored

HASH, OTHER = b"h" * 16, b"o" * 16


async def claim(database: Database, *arguments: object) -> Claim:
    inbox = InboxTable(database.tables)
    async with database.begin() as connection:
        return await inbox.claim(connection, *arguments)  # type: ignore[arg-type]


async def test_the_first_delivery_is_taken_and_the_second_turned_away(database: Database, database_url: str) -> None:
    identity = uuid4()

    assert await claim(database, "mail.welcome", (), identity, HASH) is Claim.TAKEN
    assert await claim(database, "mail.welcome", (), identity, HASH) is Claim.DUPLICATE
    assert await claim(database, "mail.welcome", (), identity, OTHER) is Claim.CONFLICT
    assert await claim(database, "mail.other", (), identity, OTHER) is Claim.TAKEN
    assert await claim(database, "mail.welcome", (), uuid4(), HASH) is Claim.TAKEN
    assert len(await stored(database_url, "inbox")) == 3


async def test_a_claim_goes_with_its_transaction(database: Database) -> None:
    identity = uuid4()
    inbox = InboxTable(database.tables)
    with pytest.raises(KeyError):  # noqa: PT012 - the block is the transaction
        async with database.begin() as connection:
            await inbox.claim(connection, "mail.welcome", (), identity, HASH)
            raise KeyError

    assert await claim(database, "mail.welcome", (), identity, HASH) is Claim.TAKEN


async def test_of_many_at_once_one_is_taken(database: Database) -> None:
    identity = uuid4()

    claims = await asyncio.gather(*(claim(database, "mail.welcome", (), identity, HASH) for _ in range(10)))

    assert sorted(one.value for one in claims) == ["duplicate"] * 9 + ["taken"]


async def test_what_was_handled_under_a_former_id_stays_handled(database: Database) -> None:
    identity = uuid4()
    await claim(database, "mail.former", (), identity, HASH)

    assert await claim(database, "mail.welcome", ("mail.oldest", "mail.former"), identity, HASH) is Claim.DUPLICATE
    assert await claim(database, "mail.second", ("mail.former",), identity, OTHER) is Claim.CONFLICT
    assert await claim(database, "mail.third", ("mail.stranger",), identity, HASH) is Claim.TAKEN
