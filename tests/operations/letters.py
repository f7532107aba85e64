"""Dead letters for tests: handlers that fail until they are repaired, and rows by the hundred."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import insert

from mediator import MediatorApp
from mediator.storage.columns import database_now
from mediator.storage.parked import DEAD
from tests.consuming.notes import NotedV1, at_once, listener, writes

__all__ = ["Repairable", "die", "dying", "positions", "store"]


class Repairable:
    """Fails until it is repaired."""

    def __init__(self, message: str = "account {text} is closed") -> None:
        self.broken, self.message, self.calls = True, message, 0

    def __call__(self, handler: object, event: NotedV1) -> None:
        self.calls += 1
        writes(handler, event)
        if self.broken:
            raise LookupError(self.message.format(text=event.text))


def dying(react: Callable[..., Any], name: str = "Send", **attributes: Any) -> type:
    return listener(name, react, **{"retry": at_once(1), **attributes})


async def die(app: MediatorApp, *texts: str, account: str = "a") -> None:
    """Publish notes, one after the other, and wait until they have died."""
    for text in texts:
        await app.publish_in_own_transaction(NotedV1(account=account, text=text))
    await app.drained()


async def positions(app: MediatorApp, **filters: Any) -> list[int]:
    return [letter.position for letter in await app.dead_letters.list(**filters)]


async def store(app: MediatorApp, count: int, **values: Any) -> Sequence[int]:
    """Put letters into the table, as if they had died; gives their positions."""
    row = {
        "subscriber_id": "mail.send",
        "status": DEAD,
        "reason": "failed",
        "attempts": 1,
        "topic": "test.bank.public.notes.v1",
        "partition_key": None,
        "headers": "{}",
        "body": b"{}",
        **values,
    }
    database = app.dead_letters._database
    async with database.begin() as connection:
        statement = insert(database.tables.parked).values(died_at=database_now())
        await connection.execute(statement, [{**row, "event_id": uuid4()} for _ in range(count)])
    return [position for position, _ in (await app.dead_letters.select()).letters]
