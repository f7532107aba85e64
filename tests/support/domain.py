"""A small domain for tests: accounts that record events, and effects that handlers leave behind."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select

from mediator import AggregateRoot, MediatorApp

__all__ = ["Account", "Effect", "create_tables", "effects"]


class Account(AggregateRoot, SQLModel, table=True):
    """An aggregate with a balance."""

    __tablename__ = "test_accounts"
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner: str = ""
    balance: int = 0


class Effect(SQLModel, table=True):
    """What a handler did: written through its session."""

    __tablename__ = "test_effects"
    id: int | None = Field(default=None, primary_key=True)
    what: str
    detail: str = ""


async def create_tables(url: str) -> None:
    """The application's own tables are its own business: make them."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    await engine.dispose()


async def effects(app: MediatorApp, module: str | None = None) -> Sequence[tuple[str, str]]:
    """The effects that are committed, oldest first."""
    async with app.unit_of_work(module) as uow:
        found = await uow.session.exec(select(Effect).order_by(Effect.id))  # type: ignore[arg-type]
        return [(effect.what, effect.detail) for effect in found]
