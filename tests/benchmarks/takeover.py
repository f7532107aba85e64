"""How long it takes until others relay what a relay would have relayed that was killed (`kill -9`).

Three relay processes share the slots. One is killed, and at once a row is committed to every slot: measured is the time
until the last of them has arrived at the broker.
"""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measuring import Figures, Scale, Table
from tests.benchmarks.places import Place, on_each
from tests.publishing.relays import EVERY_SLOT, Office, Plan, RelayProcess, are_sharing, relay_app, sent, until

__all__ = ["run"]

RELAYS = 3
AT_PEACE, KILLED = "nobody is killed", "one of three relays is killed just before"


async def run(scale: Scale) -> Sequence[Table]:
    """With the settings that an application has when it says nothing."""
    return await on_each(["sqlite", "postgresql", "mariadb"], _taking_over, scale)


async def _taking_over(place: Place, scale: Scale) -> Sequence[Table]:
    with TemporaryDirectory() as folder:
        plan = Plan(place.url, Path(folder), settings={"relay": {}})
        relays = [RelayProcess(plan) for _ in range(RELAYS)]
        figures = {AT_PEACE: Figures([], []), KILLED: Figures([], [])}
        async with AsyncExitStack() as stack:
            office = Office(await stack.enter_async_context(relay_app(plan, roles={"publish"}, schema="create")), plan)
            for relay in relays:
                stack.enter_context(relay)
            for number in range(scale.rounds):
                await _settled(office, relays)
                await _measure(office, figures[AT_PEACE])
                victim = _victim(office, relays, number)
                victim.kill()
                await _measure(office, figures[KILLED])
                victim.start()
    longest = max(figures[KILLED].wall) / 1_000_000
    title = f"A commit to every slot, until it has arrived at the broker, on {place.title}"
    note = f"The longest of {scale.rounds} takeovers took {longest:,.2f} s."
    return [Table(title, figures, notes=[note])]


async def _settled(office: Office, relays: Sequence[RelayProcess]) -> None:
    """Until each has its share; on SQLite one has all, and the others wait."""
    await until(lambda: all(relay.is_ready for relay in relays))
    if office.database.dialect == "sqlite":
        await office.publish(*EVERY_SLOT)
        await until(office.all_is_sent)
    else:
        await until(lambda: are_sharing(office, *relays), every_seconds=0.3)


def _victim(office: Office, relays: Sequence[RelayProcess], number: int) -> RelayProcess:
    if office.database.dialect != "sqlite":
        return relays[number % len(relays)]
    (has_all,) = [relay for relay in relays if relay.pid == sent(office.plan.folder)[-1].pid]
    return has_all


async def _measure(office: Office, figures: Figures) -> None:
    started, worked = time.monotonic(), time.process_time()
    await office.publish(*EVERY_SLOT)
    await until(office.all_is_sent, every_seconds=0.05)
    figures.wall.append((sent(office.plan.folder)[-1].at - started) * 1_000_000)
    figures.cpu.append((time.process_time() - worked) * 1_000_000)
