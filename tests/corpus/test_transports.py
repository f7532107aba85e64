"""The corpus, put on each broker as somebody else would: what can be read is handled, everything else is kept."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from mediator import MediatorApp
from mediator.messaging.cloudevents import encoded
from mediator.operations.dead_letters import DeadLetter
from tests.corpus.cases import CASES, FINE, Case, carried
from tests.corpus.events import depot
from tests.corpus.places import Place
from tests.support import AppFactory, effects
from tests.support.foreign import Send, sending

GOOD = next(case for case in CASES if case.name == "bytes/good")
OTHERS = [case for case in CASES if case is not GOOD]
MOST_KEPT = 4 * 1024 * 1024
PLAIN = ("kafka", "amqp")
"""Where headers stand plain, and are kept percent-encoded."""
WAIT_SECONDS, A_MOMENT_SECONDS = 90, 0.3


@pytest.mark.timeout(300)
async def test_what_can_be_read_is_handled_once_and_the_rest_kept_once(place: Place, make_app: AppFactory) -> None:
    await put_before(place, make_app)


@pytest.mark.timeout(300)
@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("place", ["memory"], indirect=True)
async def test_every_database_keeps_what_cannot_be_read(place: Place, make_app: AppFactory) -> None:
    await put_before(place, make_app)


async def put_before(place: Place, make_app: AppFactory) -> None:
    """Put all of it twice, and then something good; look at what became of each, also after a restart."""
    taken = [case for case in OTHERS if place.name not in case.refused_by]

    async with make_app(depot(), transport=place.url) as app:
        async with sending(app, place.url) as send:
            refused = [case for case in OTHERS for _ in range(2) if not await is_taken(send, case)]
            await send(GOOD.topic, GOOD.headers, GOOD.body, None)
        await until_all_are_settled(app, [*taken, GOOD], place)

        assert Counter(map(str, refused)) == {case.name: 2 for case in OTHERS if place.name in case.refused_by}
        assert Counter(note for _, note in await effects(app)) == handled_once([*taken, GOOD], place)
        letters = await app.dead_letters.list(limit=1_000)
        assert told(letters) == expected(taken, place)
        assert [str(case_of(letter)) for letter in letters if not is_kept_exactly(letter, place)] == []
        assert await app.transport.backlog(["shop.depot"]) == {"shop.depot": 0}

    async with make_app(depot(), transport=place.url) as app:
        await asyncio.sleep(A_MOMENT_SECONDS)
        await app.drained()

        assert len(await app.dead_letters.list(limit=1_000)) == len(letters)


async def is_taken(send: Send, case: Case) -> bool:
    """Put a message; whether that was possible as it is."""
    try:
        await send(case.topic, case.headers, case.body, None)
    except ValueError:
        return False
    return True


async def until_all_are_settled(app: MediatorApp, cases: Sequence[Case], place: Place) -> None:
    """Wait for as many effects and letters as there are messages, and whatever comes after those."""
    letters = sum(case.reason_over(place.name) != FINE for case in cases)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (  # noqa: ASYNC110 - there is nobody who would tell
                len(await app.dead_letters.list(limit=1_000)) < letters
                or len(await effects(app)) < len(cases) - letters
            ):
                await asyncio.sleep(0.1)
    except TimeoutError:
        return  # what is missing is told by name
    await app.drained()


def handled_once(cases: Sequence[Case], place: Place) -> Mapping[str, int]:
    return {case.name: 1 for case in cases if case.reason_over(place.name) == FINE}


def expected(cases: Sequence[Case], place: Place) -> Mapping[tuple[str, str], int]:
    return {(case.name, case.letter): 1 for case in cases if case.reason_over(place.name) != FINE}


def told(letters: Sequence[DeadLetter]) -> Mapping[tuple[str, str], int]:
    return Counter((case_of(letter).name, letter.reason) for letter in letters)


def case_of(letter: DeadLetter) -> Case:
    """Whose letter it is: it says so in a header, unless it has none."""
    found = [case for case in CASES if letter.headers.get("x-case") == case.name]
    return found[0] if found else next(case for case in CASES if letter.body == case.body)


def is_kept_exactly(letter: DeadLetter, place: Place) -> bool:
    """Whether bytes and headers are what was put; of what was read, a handler's letter has the envelope."""
    case = case_of(letter)
    headers = carried(case.headers)
    if place.name in PLAIN:
        headers = {name: encoded(value) for name, value in headers.items()}
    is_read = not letter.subscriber_id.startswith("@")
    return letter.body == case.body[:MOST_KEPT] and (is_read or letter.headers == headers)
