"""Domain events are found whatever kind of class the aggregate is, and whatever becomes of the object."""

import gc
import weakref
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlmodel import select

from mediator import AggregateRoot
from mediator.publishing.unit_of_work import SqlUnitOfWork
from tests.publishing.bank import Happened, HappenedConverter, facts
from tests.support import Account, AppFactory, module_of


class Base(DeclarativeBase):
    pass


class Declared(AggregateRoot, Base):
    __tablename__ = "test_declared"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="")


@dataclass
class Mapped_(AggregateRoot):  # noqa: N801 - `Mapped` is SQLAlchemy's
    id: int
    name: str = ""


METADATA = MetaData()
registry(metadata=METADATA).map_imperatively(
    Mapped_, Table("test_mapped", METADATA, Column("id", Integer, primary_key=True), Column("name", String(50)))
)


@dataclass
class Plain(AggregateRoot):
    names: list[str] = field(default_factory=list)


async def create(uow: SqlUnitOfWork, metadata: MetaData) -> None:
    await (await uow.session.connection()).run_sync(metadata.create_all)


async def test_a_sqlmodel_table(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            account.record_event(Happened("opened"))
            uow.session.add(account)
        async with app.unit_of_work() as uow:
            loaded = (await uow.session.exec(select(Account))).one()
            loaded.record_event(Happened("loaded"))

        assert await facts(app, database_url) == ["opened", "loaded"]


async def test_a_declarative_class(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            await create(uow, Base.metadata)
            row = Declared(id=1)
            row.record_event(Happened("opened"))
            uow.session.add(row)
        async with app.unit_of_work() as uow:
            loaded = await uow.session.get_one(Declared, 1)
            loaded.record_event(Happened("loaded"))

        assert await facts(app, database_url) == ["opened", "loaded"]


async def test_an_imperatively_mapped_dataclass(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            await create(uow, METADATA)
            row = Mapped_(1)
            row.record_event(Happened("opened"))
            uow.session.add(row)
        async with app.unit_of_work() as uow:
            loaded = await uow.session.get_one(Mapped_, 1)
            loaded.record_event(Happened("loaded"))

        assert await facts(app, database_url) == ["opened", "loaded"]


async def test_a_plain_dataclass_that_is_tracked(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            plain, untracked = Plain(), Plain()
            plain.record_event(Happened("before"))
            uow.track(plain)
            uow.track(plain)
            plain.record_event(Happened("after"))
            untracked.record_event(Happened("never"))

        assert await facts(app, database_url) == ["before", "after"]
        assert plain.recorded_events == ()


async def test_the_order_of_recording_holds_over_several_aggregates(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account, plain, other = Account(), Plain(), Account()
            uow.session.add_all([other, account])
            uow.track(plain)
            for number, aggregate in enumerate([account, plain, other, plain, account, other]):
                aggregate.record_event(Happened(str(number)))

        assert await facts(app, database_url) == ["0", "1", "2", "3", "4", "5"]


async def test_an_aggregate_that_was_loaded_not_modified_and_is_no_longer_referenced(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            uow.session.add(Account(owner="Ada"))
        async with app.unit_of_work() as uow:
            account = (await uow.session.exec(select(Account))).one()
            account.record_event(Happened("seen"))
            del account
            gc.collect()

        assert await facts(app, database_url) == ["seen"]


async def test_aggregates_are_let_go_when_the_unit_of_work_ends(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            uow.session.add(account)
        gone = weakref.ref(account)
        del account
        gc.collect()

        assert gone() is None
        assert uow.is_open is False


async def test_a_deleted_aggregate(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            uow.session.add(account)
            identity: UUID = account.id
        async with app.unit_of_work() as uow:
            account = await uow.session.get_one(Account, identity)
            account.record_event(Happened("closed"))
            await uow.session.delete(account)

        assert await facts(app, database_url) == ["closed"]


async def test_an_aggregate_of_an_earlier_unit_of_work_that_is_added_again(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        account = Account(id=uuid4())
        async with app.unit_of_work() as uow:
            uow.session.add(account)
        account.record_event(Happened("detached"))
        async with app.unit_of_work() as uow:
            uow.session.add(account)

        assert await facts(app, database_url) == ["detached"]


async def test_an_aggregate_that_was_flushed_and_refreshed_keeps_its_events(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account()
            account.record_event(Happened("opened"))
            uow.session.add(account)
            await uow.session.flush()
            await uow.session.refresh(account)
            uow.session.expire_all()

        assert await facts(app, database_url) == ["opened"]


async def test_events_are_dispatched_once(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        account = Account()
        async with app.unit_of_work() as uow:
            account.record_event(Happened("once"))
            uow.session.add(account)
        async with app.unit_of_work() as uow:
            uow.session.add(account)

        assert await facts(app, database_url) == ["once"]


async def test_what_a_detached_aggregate_recorded_goes_over_to_its_heir(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("bank", HappenedConverter)) as app:
        async with app.unit_of_work() as uow:
            account = Account(owner="Ada")
            uow.session.add(account)
        account.record_event(Happened("detached"))
        async with app.unit_of_work() as uow:
            merged = await uow.session.merge(account)

            assert merged.recorded_events == (Happened("detached"),)
            assert account.recorded_events == ()

        assert await facts(app, database_url) == ["detached"]
