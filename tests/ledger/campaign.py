"""A campaign: runs on one database, killed one after the other at chosen places, then a run that may finish.

    campaign = Campaign(folder, seed)
    campaign.kill("inbox.before_commit")
    assert campaign.verdict() == []

Everything that chance decides comes from the seed; the same seed kills at the same places with the same transfers.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from tests.ledger.forks import KILLED, run_forked
from tests.ledger.journal import Intent
from tests.ledger.judge import Violation, judge
from tests.ledger.process import Run
from tests.ledger.tables import ACCOUNTS, prepare

__all__ = ["Campaign", "new_seed"]

_REACHED_AT_LEAST = {
    "relay.after_lock": 3,
    "relay.before_delete": 2,
    "relay.after_delete": 2,
    "relay.after_fetch": 10,
    "relay.after_publish": 10,
    "consumer.received": 10,
    "consumer.parsed": 10,
    "consumer.after_ack": 10,
    "retry.after_claim": 3,
    "retry.before_commit": 2,
    "dead.before_store": 1,
    "replay.midway": 2,
}
"""How often a run reaches a place, whatever the timing."""
_OFTEN = 40
"""How often a run reaches the other places: those that each of some seventy units of work passes."""
# Last digits of the amounts: every way to go wrong is taken in every run, the most telling ones twice.
_DIGITS = (0, 1, 3, 3, 4, 5, 7, 8, 9, 9)


def new_seed() -> int:
    """A seed from the environment (PROMISES_SEED), or a new one."""
    return int(os.environ.get("PROMISES_SEED") or Random().randrange(2**32))


class Campaign:
    """Runs of one ledger."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        variant: str | None = None,
        accounts: Sequence[str] = ACCOUNTS,
        refusals: float = 0.2,
        set_aside_for: timedelta = timedelta(milliseconds=20),
        killed_in: Callable[[Run], int] = run_forked,
    ) -> None:
        self.folder, self.seed, self.variant = folder, seed, variant
        self._accounts, self._refusals, self._set_aside_for = accounts, refusals, set_aside_for
        self.kills: Counter[str] = Counter()
        self._random, self._killed_in, self._runs = Random(seed), killed_in, 0
        prepare(folder)

    def kill(self, place: str, occurrence: int | None = None) -> None:
        """Start a run that dies when `place` is reached for the n-th time; it is an error if it does not."""
        code = self.try_to_kill(place, occurrence)
        assert code == KILLED, f"{place} was not reached: exit {code}\n{self.story()}"
        self.kills[place] += 1

    def try_to_kill(self, place: str, occurrence: int | None = None) -> int:
        """The same for a variant, which may not get so far; gives the exit code."""
        occurrence = occurrence or self._random.randint(1, _REACHED_AT_LEAST.get(place, _OFTEN))
        return self._killed_in(replace(self.next_run(), kill=(place, occurrence), heal=place == "replay.midway"))

    def finish(self, *, heal: bool = False) -> int:
        """A run that nobody kills; gives its exit code. One that heals moves no more money."""
        run = self.next_run()
        return run_forked(replace(run, heal=True, intents=()) if heal else run)

    def verdict(self) -> Sequence[Violation]:
        """What the judge finds at once, after a run that could finish, and after one that healed."""
        found: list[Violation] = []
        if self._runs:
            found = judge(self.folder, quiet=False)
        for heal in (False, True):
            if not found:
                code = self.finish(heal=heal)
                found = judge(self.folder, quiet=True, healed=heal)
                assert code == 0 or found, f"a run that nobody killed ended with {code}\n{self.story()}"
        return found

    def next_run(self) -> Run:
        """A run with transfers of its own."""
        self._runs += 1
        digits = self._random.sample(_DIGITS, len(_DIGITS))
        intents = [
            Intent(
                f"{self._runs}-{number}", self._random.choice(self._accounts), self._random.randrange(100) * 10 + digit
            )
            for number, digit in enumerate(digits)
        ]
        patience = timedelta(seconds=2 if self.variant else 60)
        seed = self._random.randrange(2**32)
        return Run(
            self.folder,
            seed,
            tuple(intents),
            None,
            self.variant,
            refusals=self._refusals,
            set_aside_for=self._set_aside_for,
            patience=patience,
        )

    def shuffled(self, places: Sequence[str]) -> list[str]:
        """The places in an order that the seed decides."""
        return self._random.sample(places, len(places))

    def story(self) -> str:
        """What is needed to repeat and to understand a failure."""
        log = self.folder / "process.log"
        last = log.read_text(encoding="utf-8", errors="replace")[-4_000:] if log.exists() else ""
        return f"PROMISES_SEED={self.seed} kills: {dict(self.kills)}\n{last}"
