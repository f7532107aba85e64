"""What outbox rows add to an ORM transaction, next to a plain session, and to a row of one's own added to it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, LargeBinary, String
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import MediatorApp
from tests.benchmarks.measuring import Goal, Scale, Table, Way, again, measure
from tests.benchmarks.places import Place, on_each
from tests.support import Account, module_of

__all__ = ["run"]

PLAIN = "a plain session"
BY_HAND = "a plain session that adds a row of its own"
ROWS = "a unit of work, outbox rows: {}".format


@event_topic("openings", domain="bank")
class OpenedV1(IntegrationEvent):
    """An account was opened."""

    owner: str


class _Rows(SQLModel, registry=registry()):
    """Base with a MetaData of its own."""


class HandWrittenRow(_Rows, table=True):
    """An outbox as one would write it oneself, with the least that it needs."""

    __tablename__ = "hand_written_outbox"
    id: int | None = Field(default=None, primary_key=True)
    event_id: UUID
    topic: str = Field(sa_type=String(200))
    key: str | None = Field(default=None, sa_type=String(200))
    body: bytes = Field(sa_type=LargeBinary)
    occurred_on: datetime = Field(sa_type=DateTime(timezone=True))


async def run(scale: Scale) -> Sequence[Table]:
    """Nothing relays meanwhile: what becomes of the rows afterwards is not what a transaction costs."""
    return await on_each(["sqlite", "postgresql", "mariadb"], _committing, scale)


async def _committing(place: Place, scale: Scale) -> Sequence[Table]:
    app = MediatorApp(
        "bench",
        modules=[module_of("bank")],
        database=place.url,
        environment="bench",
        roles={"publish"},
        schema="create",
    )

    async with app:
        services = app._started("the benchmark").services[0]
        # What waking other processes costs, the benchmark `wakeup` says.
        services._notifier = None
        database = services.database
        async with database.begin() as connection:
            await connection.run_sync(_Rows.metadata.create_all)

        async def plain() -> None:
            async with AsyncSession(database.writer, expire_on_commit=False) as session:
                session.add(Account(owner="Ada"))
                await session.commit()

        async def by_hand() -> None:
            async with AsyncSession(database.writer, expire_on_commit=False) as session:
                session.add(Account(owner="Ada"))
                event = OpenedV1(owner="Ada")
                body = event.model_dump_json().encode()
                row = HandWrittenRow(
                    event_id=event.event_id, topic="openings", body=body, occurred_on=event.occurred_on
                )
                session.add(row)
                await session.commit()

        def publishing(events: int) -> Callable[[], Awaitable[None]]:
            async def in_unit_of_work() -> None:
                async with app.unit_of_work() as uow:
                    uow.session.add(Account(owner="Ada"))
                    uow.publish(*(OpenedV1(owner="Ada") for _ in range(events)))

            return in_unit_of_work

        ways: dict[str, Way] = {PLAIN: again(plain), BY_HAND: again(by_hand)}
        ways |= {ROWS(number): again(publishing(number)) for number in (0, 1, 10)}
        goals = [
            Goal("1 outbox row, to none: CPU", ROWS(1), ROWS(0), "cpu", 1.25),
            Goal("10 outbox rows, to none: CPU", ROWS(10), ROWS(0), "cpu", 1.45),
            Goal("1 outbox row, to a row of one's own: CPU", ROWS(1), BY_HAND, "cpu", 0.75),
        ]
        title = f"A transaction that inserts one aggregate, on {place.title}"
        return [await measure(title, ways, 100, scale, goals=goals)]
