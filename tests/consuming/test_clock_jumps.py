"""The clock of a process jumps: nothing that decides something listens to it."""

from datetime import UTC, datetime, timedelta
from functools import partial

from mediator import MediatorApp, Outgoing, RetryPolicy, Runtime
from tests.consuming.notes import NotedV1, RemarkedV1, eventually, listener, rows, writes
from tests.promises.arrivals import arrive, envelope_of
from tests.support import AppFactory, module_of, quick_settings

HOUR = timedelta(hours=1)
IN_BETWEEN = HOUR / 2


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def has_counted(app: MediatorApp, what: str, number: int) -> bool:
    return app.counters.total(what) >= number


async def test_a_clock_that_jumps_an_hour_changes_nothing(make_app: AppFactory) -> None:
    def fail(_handler: object, _event: object) -> None:
        raise LookupError("not yet")

    clock = Clock()
    settings = quick_settings(retention={"sent": IN_BETWEEN, "inbox": IN_BETWEEN})
    handlers = [
        listener("Write", writes),
        listener("Fail", fail, RemarkedV1, retry=RetryPolicy.fixed(3, IN_BETWEEN)),
    ]
    runtime = Runtime(now=clock.now)
    async with make_app(module_of("mail", *handlers), settings=settings, runtime=runtime) as app:
        events = []
        for number, ahead in enumerate((timedelta(0), HOUR, -HOUR, HOUR)):
            clock.ahead = ahead
            events.append(NotedV1(text=str(number)))
            later = Outgoing(NotedV1(text="later"), delay=IN_BETWEEN)
            await app.publish_in_own_transaction(events[-1], RemarkedV1(text=str(number)), later)
            await eventually(partial(has_counted, app, "handled", number + 1))
            await eventually(partial(has_counted, app, "failed", number + 1))
            await arrive(app, *map(envelope_of, events))

            assert await app.clean() == 0
            assert [row.attempts for row in await rows(app, "parked")] == [1] * (number + 1)
            assert len([row for row in await rows(app, "outbox") if row.slot < 0]) == number + 1

        # Neither was a duplicate handled again.
        assert app.counters.total("handled", "mail.write") == 4
        assert app.counters.total("failed", "mail.fail") == 4
