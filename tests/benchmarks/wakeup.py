"""What it costs sixteen writers to wake a relay in another process: not at all, as the toolkit does it, naively.

Naively means NOTIFY in the business transaction: it holds a lock of the whole server until the commit is on the disk,
so that commits stand in line. The toolkit tells after the commit, from a connection of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import DatabaseSettings, MediatorApp, MediatorSettings
from mediator.publishing.wakeup import listening
from mediator.storage.database import Database
from tests.benchmarks.measuring import Goal, Scale, Table, Way, measure
from tests.benchmarks.places import Place, on_each
from tests.publishing.relays import CountedV1, in_a_process, until
from tests.support import Account, module_of

__all__ = ["run"]

WRITERS = 16
OFF, ON, NAIVE = "nobody is told", "told after the commit", "NOTIFY in the transaction"


async def run(scale: Scale) -> Sequence[Table]:
    """Only PostgreSQL can tell."""
    return await on_each(["postgresql"], _committing, scale)


async def _committing(place: Place, scale: Scale) -> Sequence[Table]:
    app = MediatorApp(
        "bench",
        modules=[module_of("bank")],
        database=place.url,
        environment="bench",
        roles={"publish"},
        schema="create",
        settings=MediatorSettings(database=DatabaseSettings(connections=WRITERS)),
    )
    async with app:
        services = app._started("the benchmark").services[0]
        notifier = services._notifier

        async def before(way: str, _times: int) -> None:
            services._notifier = notifier if way == ON else None
            async with services.database.begin() as connection:
                await connection.execute(text(f"TRUNCATE {services.database.tables.outbox.fullname}"))

        async def commit() -> None:
            async with app.unit_of_work() as uow:
                uow.session.add(Account(owner="Ada"))
                uow.publish(CountedV1(key="Ada", number=1))

        async def commit_naively() -> None:
            async with app.unit_of_work() as uow:
                uow.session.add(Account(owner="Ada"))
                uow.publish(CountedV1(key="Ada", number=1))
                await tell(uow.session)

        with TemporaryDirectory() as folder:
            ready = Path(folder) / "ready"
            listener = in_a_process(_listen, place.url, ready)
            try:
                await until(ready.exists)
                ways: dict[str, Way] = {OFF: _together(commit), ON: _together(commit), NAIVE: _together(commit_naively)}
                goals = [
                    Goal("commits per second, told after the commit, to nobody is told", ON, OFF, "wall", 0.9, True)
                ]
                title = (
                    f"A commit with an outbox row, {WRITERS} writers, a listener in another process, on {place.title}"
                )
                return [await measure(title, ways, 1_600, scale, goals=goals, before=before)]
            finally:
                listener.kill()
                listener.join()


async def tell(session: AsyncSession) -> None:
    """As one would at first."""
    await session.execute(text("SELECT pg_notify('outbox', '')"))


def _together(commit: Callable[[], Awaitable[None]]) -> Way:
    async def way(times: int) -> None:
        left = iter(range(times))

        async def write() -> None:
            for _ in left:
                await commit()

        await asyncio.gather(*(write() for _ in range(WRITERS)))

    return way


async def _listen(url: str, ready: Path) -> None:
    database = Database(url)
    await database.open()
    async with listening(database, lambda _slots: ready.touch()), database.dedicated() as connection:
        # The naive ones are heard as well.
        driver = (await connection.get_raw_connection()).driver_connection
        with suppress(AttributeError):
            await driver.add_listener("outbox", lambda *_: None)  # type: ignore[union-attr]
        await asyncio.Event().wait()
