"""`ordering = "key"`: a failing event holds back the later ones of its key, and nobody else."""

from collections import defaultdict
from random import Random

import pytest

from mediator import MediatorApp
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of, quick_settings


class Failing:
    """Fails for the texts in `wrong`, as often as it says."""

    def __init__(self, **wrong: int) -> None:
        self.wrong = wrong

    def __call__(self, handler: object, event: NotedV1) -> None:
        if self.wrong.get(event.text, 0) > 0:
            self.wrong[event.text] -= 1
            raise LookupError("not yet")
        writes(handler, event)


async def texts(app: MediatorApp) -> list[str]:
    return [detail for _, detail in await effects(app)]


async def publish(app: MediatorApp, *texts: str, account: str = "a") -> None:
    for text in texts:
        await app.publish_in_own_transaction(NotedV1(account=account, text=text))


async def statuses(app: MediatorApp) -> list[str]:
    return [row.status for row in await rows(app, "parked")]


async def test_later_events_of_the_key_wait_for_a_retry(make_app: AppFactory) -> None:
    handler = listener("Book", Failing(a1=2), ordering="key", retry=at_once(5))

    async with make_app(module_of("bank", handler)) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()

        assert await texts(app) == ["a1", "a2", "a3"]


async def test_other_keys_and_other_handlers_do_not_wait(make_app: AppFactory) -> None:
    book = listener("Book", Failing(a1=99), ordering="key", retry=at_once(1))
    count = listener("Count", Failing(), ordering="key")

    async with make_app(module_of("bank", book, count)) as app:
        await publish(app, "a1", "a2")
        await publish(app, "b1", account="b")
        await app.drained()

        assert sorted(await effects(app)) == [("Book", "b1"), ("Count", "a1"), ("Count", "a2"), ("Count", "b1")]
        assert await statuses(app) == ["dead", "blocked"]


async def test_without_it_nobody_waits(make_app: AppFactory) -> None:
    handler = listener("Book", Failing(a1=99), ordering="none", retry=at_once(1))

    async with make_app(module_of("bank", handler)) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()

        assert await texts(app) == ["a2", "a3"]


async def test_what_waited_for_an_order_goes_when_none_is_kept_any_more(make_app: AppFactory) -> None:
    failing = Failing(a1=99)
    async with make_app(module_of("bank", listener("Book", failing, ordering="key", retry=at_once(1)))) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()
        assert await statuses(app) == ["dead", "blocked", "blocked"]
    async with make_app(module_of("bank", listener("Book", failing, ordering="none", retry=at_once(1)))) as app:
        await app.drained()

        assert sorted(await texts(app)) == ["a2", "a3"]
        assert await statuses(app) == ["dead"]


async def test_what_waits_behind_a_dead_letter_survives_a_restart(make_app: AppFactory) -> None:
    failing = Failing(a1=1)
    handler = listener("Book", failing, ordering="key", retry=at_once(1))

    async with make_app(module_of("bank", handler)) as app:
        await publish(app, "a1", "a2")
        await app.drained()
    async with make_app(module_of("bank", handler)) as app:
        await publish(app, "a3")
        await app.drained()
        assert await statuses(app) == ["dead", "blocked", "blocked"]

        (letter,) = await app.dead_letters.list()
        await app.dead_letters.replay(letter.position)
        await app.drained()

        assert await texts(app) == ["a1", "a2", "a3"]


async def test_a_replay_lets_the_key_go_on_in_order(make_app: AppFactory) -> None:
    failing = Failing(a1=99)

    async with make_app(module_of("bank", listener("Book", failing, ordering="key", retry=at_once(2)))) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()
        failing.wrong.clear()
        (letter,) = await app.dead_letters.list()
        await app.dead_letters.replay(letter.position)
        await publish(app, "a4")
        await app.drained()

        assert await texts(app) == ["a1", "a2", "a3", "a4"]


async def test_a_discard_lets_the_key_go_on_without_it(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", listener("Book", Failing(a1=99), ordering="key", retry=at_once(1)))) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()
        (letter,) = await app.dead_letters.list()
        await app.dead_letters.discard(letter.position, reason="was a test")
        await publish(app, "a4")
        await app.drained()

        assert await texts(app) == ["a2", "a3", "a4"]
        assert await statuses(app) == ["discarded"]


async def test_an_edited_replay_lets_the_key_go_on_in_order(make_app: AppFactory) -> None:
    handler = listener("Book", Failing(a1=99), ordering="key", retry=at_once(1))
    settings = quick_settings(allow_edited_replay=True)

    async with make_app(module_of("bank", handler), settings=settings) as app:
        await publish(app, "a1", "a2", "a3")
        await app.drained()
        (letter,) = await app.dead_letters.list()
        await app.dead_letters.edit_and_replay(letter.position, {"text": "corrected"}, reason="typo")
        await publish(app, "a4")
        await app.drained()

        assert await texts(app) == ["corrected", "a2", "a3", "a4"]


async def test_the_next_may_fail_too(make_app: AppFactory) -> None:
    handler = listener("Book", Failing(a1=1, a2=2, a3=1), ordering="key", retry=at_once(9))

    async with make_app(module_of("bank", handler)) as app:
        await publish(app, "a1", "a2", "a3", "a4")
        await app.drained()

        assert await texts(app) == ["a1", "a2", "a3", "a4"]
        assert await statuses(app) == []


async def test_a_pause_keeps_the_order(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", listener("Book", Failing(a2=1), ordering="key", retry=at_once(5)))) as app:
        await publish(app, "a1")
        await app.drained()
        app.pause("bank.book")
        await publish(app, "a2", "a3", "a4")
        await eventually(lambda: app.counters.total("parked", "bank.book") == 3)
        app.resume("bank.book")
        await publish(app, "a5")
        await app.drained()

        assert await texts(app) == ["a1", "a2", "a3", "a4", "a5"]


@pytest.mark.parametrize("seed", range(4))
async def test_no_key_is_ever_out_of_order(make_app: AppFactory, seed: int) -> None:
    """Against a model: the effects of a key are its events as published, without those that were discarded."""
    random = Random(seed)
    keys, wrong, model = "abcde", defaultdict[str, int](int), defaultdict[str, list[str]](list)
    failing = Failing()
    failing.wrong = wrong
    handler = listener("Book", failing, ordering="key", retry=at_once(3))

    async def act_on_dead_letters(app: MediatorApp) -> None:
        for letter in await app.dead_letters.list():
            text = NotedV1.model_validate_json(letter.body).text
            if random.random() < 0.5:
                wrong[text] = random.randrange(3)
                await app.dead_letters.replay(letter.position)
            else:
                await app.dead_letters.discard(letter.position, reason="test")
                model[text[0]].remove(text)

    async with make_app(module_of("bank", handler)) as app:
        for number in range(60):
            key = random.choice(keys)
            text = f"{key}{number:03}"
            wrong[text] = random.choice([0, 0, 0, 1, 2, 99])
            model[key].append(text)
            await publish(app, text, account=key)
            match random.randrange(12):
                case 0:
                    await act_on_dead_letters(app)
                case 1:
                    app.pause("bank.book")
                case 2 | 3:
                    app.resume("bank.book")
        app.resume("bank.book")
        await app.drained()
        while await app.dead_letters.list():
            await act_on_dead_letters(app)
            await app.drained()

        found = defaultdict[str, list[str]](list)
        for text in await texts(app):
            found[text[0]].append(text)
        assert found == {key: expected for key, expected in model.items() if expected}
        assert "blocked" not in await statuses(app)
