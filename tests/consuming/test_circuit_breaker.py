"""Circuit breakers: while what a handler depends on is away, its events wait and keep their attempts."""

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from mediator import CircuitBreaker, MediatorApp
from mediator.errors import SettingsError
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.promises.arrivals import arrive, arrive_at_once, envelope_of
from tests.support import AppFactory, effects, module_of

SOON, NEVER = timedelta(milliseconds=10), timedelta(hours=1)


class OtherSide:
    """What the handler calls: away until it is back."""

    def __init__(self) -> None:
        self.is_away = True
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.away_for: set[str] = set()

    def handler(self, breaker: CircuitBreaker | None, **attributes: Any) -> Any:
        def react(handler: Any, event: NotedV1) -> None:
            self.asked.append(event.text)
            writes(handler, event)
            if event.text in self.refused:
                raise LookupError(event.text)
            if self.is_away or event.text in self.away_for:
                raise ConnectionError("away")

        return listener("Call", react, **{"circuit_breaker": breaker, "retry": at_once(3), **attributes})


def breaker(after: int = 2, pause: timedelta = SOON) -> CircuitBreaker:
    return CircuitBreaker(outage=(ConnectionError,), after=after, pause=pause, longest_pause=max(pause, SOON * 4))


def notes(number: int) -> list[NotedV1]:
    return [NotedV1(account=str(position), text=str(position)) for position in range(number)]


async def attempts_of(app: MediatorApp) -> list[int]:
    return [row.attempts for row in await rows(app, "parked")]


async def test_an_outage_kills_nothing_and_everything_is_handled_after_it(make_app: AppFactory) -> None:
    other = OtherSide()
    async with make_app(module_of("mail", other.handler(breaker()))) as app:
        await arrive(app, *map(envelope_of, notes(10)))
        await eventually(lambda: len(other.asked) > 10)
        assert await app.dead_letters.list() == []
        other.is_away = False
        await app.drained()

        assert sorted(await effects(app)) == [("Call", str(number)) for number in range(10)]


async def test_without_one_the_same_outage_uses_the_attempts_up(make_app: AppFactory) -> None:
    other = OtherSide()
    async with make_app(module_of("mail", other.handler(None))) as app:
        await arrive(app, *map(envelope_of, notes(10)))
        await app.drained()

        assert len(await app.dead_letters.list()) == 10


async def test_only_those_before_it_opened_lost_an_attempt(make_app: AppFactory) -> None:
    other = OtherSide()
    handler = other.handler(breaker(after=3, pause=NEVER), concurrency=1, retry=at_once(9))
    async with make_app(module_of("mail", handler)) as app:
        await arrive(app, *map(envelope_of, notes(10)))
        await eventually(lambda: len(other.asked) == 3)

        assert sum(await attempts_of(app)) == 2
        assert {row.reason for row in await rows(app, "parked")} >= {"outage", "set aside"}


async def test_while_it_is_open_nothing_begins(make_app: AppFactory) -> None:
    other = OtherSide()
    async with make_app(module_of("mail", other.handler(breaker(after=1, pause=NEVER)))) as app:
        await arrive(app, envelope_of(NotedV1(text="first")))
        await arrive(app, *map(envelope_of, notes(20)))
        await arrive(app, *map(envelope_of, notes(20)))

        assert other.asked == ["first"]
        assert await attempts_of(app) == [0] * 41


async def test_one_at_a_time_tries_and_not_always_the_same(make_app: AppFactory) -> None:
    other = OtherSide()
    with capture_logs() as logs:
        async with make_app(module_of("mail", other.handler(breaker(after=1)))) as app:
            await arrive(app, *map(envelope_of, notes(3)))
            before = len(other.asked)
            await eventually(lambda: len(other.asked) >= before + 6)
            assert set(other.asked[before : before + 6]) == {"0", "1", "2"}
            # But for the one that is under way.
            assert sum(await attempts_of(app)) <= 1
            other.is_away = False
            await app.drained()

    pauses = [entry["pause_seconds"] for entry in logs if entry["event"] == "circuit.open"]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.04]
    assert [entry["event"] for entry in logs].count("circuit.closed") == 1


async def test_an_event_that_fails_for_its_own_sake_dies_of_it(make_app: AppFactory) -> None:
    other = OtherSide()
    other.is_away, other.refused = False, {"1"}
    async with make_app(module_of("mail", other.handler(breaker(after=1, pause=NEVER)))) as app:
        await arrive(app, *map(envelope_of, notes(3)))
        await app.drained()

        (letter,) = await app.dead_letters.list()
        assert (letter.error, letter.attempts) == ("1", 3)


async def test_an_answer_in_between_begins_the_count_anew(make_app: AppFactory) -> None:
    other = OtherSide()
    handler = other.handler(breaker(after=2, pause=NEVER), concurrency=1, retry=at_once(1))
    async with make_app(module_of("mail", handler)) as app:
        for number in range(6):
            other.is_away = number % 2 == 0
            await arrive(app, envelope_of(NotedV1(text=str(number))))

        assert len(await app.dead_letters.list()) == 3
        assert len(await effects(app)) == 3


async def test_order_is_kept_through_an_outage(make_app: AppFactory) -> None:
    other = OtherSide()
    async with make_app(module_of("mail", other.handler(breaker(after=1), ordering="key"))) as app:
        await arrive(app, *(envelope_of(NotedV1(account="mine", text=str(number))) for number in range(6)))
        await eventually(lambda: len(other.asked) > 3)
        other.is_away = False
        await app.drained()

        assert await effects(app) == [("Call", str(number)) for number in range(6)]


async def test_an_outage_in_a_batch_is_nobodys_failure_either(make_app: AppFactory) -> None:
    other = OtherSide()
    other.is_away, other.away_for = False, {"5"}
    handler = other.handler(breaker(after=1, pause=SOON), max_batch=10, concurrency=1, retry=at_once(1))
    async with make_app(module_of("mail", handler)) as app:
        await arrive_at_once(app, *map(envelope_of, notes(10)))
        assert await app.dead_letters.list() == []
        other.away_for.clear()
        await app.drained()

        assert len(await effects(app)) == 10


async def test_other_handlers_have_circuits_of_their_own(make_app: AppFactory) -> None:
    other = OtherSide()
    calls = other.handler(breaker(after=1, pause=NEVER))
    async with make_app(module_of("mail", calls, listener("Write", writes))) as app:
        await arrive(app, *map(envelope_of, notes(5)))

        assert len(await effects(app)) == 5


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("outage", ()),
        ("outage", ConnectionError),
        ("outage", (BaseException,)),
        ("after", 0),
        ("after", 1.5),
        ("pause", timedelta(0)),
        ("pause", timedelta(minutes=2)),
    ],
)
def test_one_that_cannot_work(setting: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"CircuitBreaker.{setting}"):
        CircuitBreaker(**{"outage": (ConnectionError,), setting: value})
