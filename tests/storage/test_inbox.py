"""A subscriber takes charge of an event once; the insert decides, not a look-up, and nobody waits for another's."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediator.errors import ClaimBusyError
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.inbox import Claim, InboxTable
from mediator.storage.schema import create_schema
from tests.storage.drivers import EVERY_DRIVER, ON_SERVERS
from tests.storage.rows import end_session, session_of, stored

pytestmark = EVERY_DRIVER

HASH, OTHER = b"h" * 16, b"o" * 16
WELCOME = "mail.welcome"


async def claim(database: Database, *arguments: object) -> Claim:
    async with database.begin() as connection:
        return await InboxTable(database.tables).claim(connection, *arguments)  # type: ignore[arg-type]


async def claim_at_last(database: Database, *arguments: object) -> Claim:
    """As a delivery that comes again as long as the database asks for it."""
    while True:
        try:
            return await claim(database, *arguments)
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held(database: Database, identity: UUID) -> AsyncIterator[AsyncConnection]:
    """A transaction that has claimed an event and goes on, until the block ends."""
    async with database.writer.begin() as connection:
        assert await InboxTable(database.tables).claim(connection, WELCOME, (), identity, HASH) is Claim.TAKEN
        yield connection


@contextmanager
def busy() -> Iterator[None]:
    """What is said of a claim that another transaction holds: come again."""
    with pytest.raises(ClaimBusyError) as met:
        yield
    assert is_transient(met.value)


async def test_the_first_delivery_is_taken_and_the_second_turned_away(database: Database, database_url: str) -> None:
    identity = uuid4()

    assert await claim(database, WELCOME, (), identity, HASH) is Claim.TAKEN
    assert await claim(database, WELCOME, (), identity, HASH) is Claim.DUPLICATE
    assert await claim(database, WELCOME, (), identity, OTHER) is Claim.CONFLICT
    assert await claim(database, "mail.other", (), identity, OTHER) is Claim.TAKEN
    assert await claim(database, WELCOME, (), uuid4(), HASH) is Claim.TAKEN
    assert len(await stored(database_url, "inbox")) == 3


async def test_a_delivery_that_comes_twice_in_one_transaction_is_turned_away(database: Database) -> None:
    identity, inbox = uuid4(), InboxTable(database.tables)
    async with database.begin() as connection:
        claims = [await inbox.claim(connection, WELCOME, (), identity, HASH) for _ in range(3)]

    assert claims == [Claim.TAKEN, Claim.DUPLICATE, Claim.DUPLICATE]


async def test_a_claim_goes_with_its_transaction(database: Database) -> None:
    identity = uuid4()
    with suppress(KeyError):
        async with held(database, identity):
            raise KeyError

    assert await claim(database, WELCOME, (), identity, HASH) is Claim.TAKEN


async def test_of_many_at_once_one_is_taken(database: Database, database_url: str) -> None:
    identity = uuid4()

    claims = await asyncio.gather(*(claim_at_last(database, WELCOME, (), identity, HASH) for _ in range(10)))

    assert sorted(one.value for one in claims) == ["duplicate"] * 9 + ["taken"]
    assert len(await stored(database_url, "inbox")) == 1


@ON_SERVERS
async def test_a_claim_that_is_held_is_not_waited_for(database: Database) -> None:
    identity = uuid4()
    async with held(database, identity):
        before = time.monotonic()
        with busy():
            await claim(database, WELCOME, (), identity, HASH)
        waited = time.monotonic() - before

        # Others have nothing to do with it.
        assert await claim(database, WELCOME, (), uuid4(), HASH) is Claim.TAKEN
        assert await claim(database, "mail.other", (), identity, HASH) is Claim.TAKEN

    # The servers' own patience would be ten seconds, or endless.
    assert waited < 8
    assert await claim(database, WELCOME, (), identity, HASH) is Claim.DUPLICATE


@ON_SERVERS
async def test_a_transaction_that_met_a_held_claim_keeps_nothing(database: Database, database_url: str) -> None:
    identity, before = uuid4(), uuid4()
    inbox = InboxTable(database.tables)
    async with held(database, identity):
        with busy():
            async with database.begin() as connection:
                await inbox.claim(connection, WELCOME, (), before, HASH)
                await inbox.claim(connection, WELCOME, (), identity, HASH)

    assert [row["event_id"] for row in await stored(database_url, "inbox")] == [identity]


@ON_SERVERS
async def test_when_the_first_of_many_rolls_back_one_of_the_others_takes_over(database: Database) -> None:
    # Of several that wait for one row, MariaDB and MySQL choose victims of a deadlock then.
    identity = uuid4()
    others: list[asyncio.Task[Claim]] = []
    with suppress(KeyError):
        async with held(database, identity):
            others = [asyncio.create_task(claim_at_last(database, WELCOME, (), identity, HASH)) for _ in range(3)]
            await asyncio.sleep(0.2)
            raise KeyError

    assert sorted(one.value for one in await asyncio.gather(*others)) == ["duplicate", "duplicate", "taken"]


@ON_SERVERS
async def test_what_ends_with_its_connection_is_free_again(database: Database, database_url: str) -> None:
    identity = uuid4()
    with suppress(Exception):
        async with held(database, identity) as connection:
            end_session(database_url, await session_of(connection))
            await connection.execute(text("SELECT 1"))

    assert await claim_at_last(database, WELCOME, (), identity, HASH) is Claim.TAKEN


@ON_SERVERS
async def test_the_same_event_of_two_applications_in_one_database_is_held_by_each(database: Database) -> None:
    identity = uuid4()
    other = Database(database.url, prefix="other_")
    await create_schema(other)
    async with held(database, identity), held(other, identity):
        pass
    await other.close()


async def test_what_was_handled_under_a_former_id_stays_handled(database: Database) -> None:
    identity = uuid4()
    await claim(database, "mail.former", (), identity, HASH)

    assert await claim(database, WELCOME, ("mail.oldest", "mail.former"), identity, HASH) is Claim.DUPLICATE
    assert await claim(database, "mail.second", ("mail.former",), identity, OTHER) is Claim.CONFLICT
    assert await claim(database, "mail.third", ("mail.stranger",), identity, HASH) is Claim.TAKEN


async def test_ids_that_differ_in_case_or_accent_are_different_subscribers(database: Database) -> None:
    identity = uuid4()
    for name in ("mail.cafe", "mail.Cafe", "mail.café", "MAIL.CAFE"):
        assert await claim(database, name, (), identity, HASH) is Claim.TAKEN


async def test_what_is_wrong_with_a_row_is_not_taken_for_a_duplicate(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await claim(database, WELCOME, (), uuid4(), None)


async def test_what_is_known_of_an_event_can_be_looked_up(database: Database) -> None:
    identity, inbox = uuid4(), InboxTable(database.tables)
    await claim(database, "mail.former", (), identity, HASH)
    async with database.read() as connection:
        assert await inbox.known_hash(connection, [WELCOME, "mail.former"], identity) == HASH
        assert await inbox.known_hash(connection, [WELCOME], identity) is None
        assert await inbox.known_hash(connection, ["mail.former"], uuid4()) is None
