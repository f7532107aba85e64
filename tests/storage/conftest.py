"""A database with the toolkit's tables."""

from collections.abc import AsyncIterator

import pytest_asyncio

from mediator.storage.database import Database
from mediator.storage.schema import create_schema


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    try:
        await database.open()
        await create_schema(database)
        yield database
    finally:
        await database.close()
