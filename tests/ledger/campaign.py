"""A campaign: runs on one database, killed one after the other at chosen places, then a run that may finish.

    campaign = Campaign(folder, url, seed)
    campaign.kill("inbox.before_commit")                       one process, alone
    campaign.storm(["relay.after_fetch", "uow.after_commit"])  a team: who dies is replaced, the others go on
    assert campaign.verdict() == []

Everything that chance decides comes from the seed: the same seed kills at the same places with the same transfers. How
the processes of a team meet is up to the machine.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any

from mediator.hosting.settings import ROLES, Role
from tests.ledger.forks import KILLED, finish, first_ended, run_forked, start
from tests.ledger.journal import read_journal
from tests.ledger.judge import Violation, judge, left_over
from tests.ledger.process import CLOSED, Run
from tests.ledger.tables import prepare

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
_MOST_IN_A_TEAM = 6
"""A member works until it dies, so it reaches every place; this is for being quick."""
_MOST_ON_SQLITE = 2
_DEATHS_BETWEEN_LOOKS = 5
_MOST_LEFT_OVER = 50


def new_seed() -> int:
    """A seed from the environment (PROMISES_SEED), or a new one."""
    return int(os.environ.get("PROMISES_SEED") or Random().randrange(2**32))


class Campaign:
    """Runs of one ledger; `options` are those of its runs."""

    def __init__(
        self,
        folder: Path,
        url: str,
        seed: int,
        *,
        killed_in: Callable[[Run], int] = run_forked,
        **options: Any,
    ) -> None:
        self.folder, self.url, self.seed = folder, url, seed
        self._options = options
        self.kills: Counter[str] = Counter()
        self.random, self._killed_in, self._runs = Random(seed), killed_in, 0
        prepare(url)

    def kill(self, place: str, occurrence: int | None = None) -> None:
        """Start a run that dies when `place` is reached for the n-th time; it is an error if it does not."""
        code = self.try_to_kill(place, occurrence)
        assert code == KILLED, f"{place} was not reached: exit {code}\n{self.story()}"
        self.kills[place] += 1

    def try_to_kill(self, place: str, occurrence: int | None = None) -> int:
        """The same for a variant, which may not get so far; gives the exit code."""
        occurrence = occurrence or self.random.randint(1, _reached_at_least(place))
        return self._killed_in(replace(self.next_run(), kill=(place, occurrence), heal=place == "replay.midway"))

    def storm(self, places: Sequence[str], members: int, *, share_roles: bool = False) -> None:
        """Let a process of a team die at each place, while the others go on; who dies is replaced at once.

        With shared roles one half of the team only moves money, and the other half does the rest.
        """
        with ExitStack() as stack:
            team = _Team(self, places, members, share_roles=share_roles)
            stack.callback(team.end)
            while team.is_needed:
                team.fill()
                team.bury()
                if sum(self.kills.values()) % _DEATHS_BETWEEN_LOOKS == 0:
                    violations = judge(self.folder, self.url, quiet=False)
                    assert not violations, f"{violations}\n{self.story()}"
            team.close()

    @contextmanager
    def at_work(self, members: int) -> Iterator[None]:
        """A team that nobody is to kill works until the end of the block, and then finishes."""
        with ExitStack() as stack:
            team = _Team(self, (), members, share_roles=False)
            stack.callback(team.end)
            team.fill()
            yield
            team.close()

    def told(self, what: str) -> int:
        """How many intents are known as `what`: intended, acked or failed."""
        return list(read_journal(self.folder).values()).count(what)

    def together(self, members: int) -> None:
        """Runs at the same time that nobody kills; how a broken one ends does not matter."""
        for process in [start(self.next_run()) for _ in range(members)]:
            finish(process)

    def finish(self, *, heal: bool = False) -> int:
        """A run that nobody kills; gives its exit code. One that heals moves no more money."""
        run = self.next_run()
        return run_forked(replace(run, heal=True, moves_money=False) if heal else run)

    def verdict(self) -> Sequence[Violation]:
        """What the judge finds at once, after a run that could finish, and after one that healed."""
        found: list[Violation] = []
        if self._runs:
            found = judge(self.folder, self.url, quiet=False)
        for heal in (False, True):
            if not found:
                code = self.finish(heal=heal)
                found = judge(self.folder, self.url, quiet=True, healed=heal)
                assert code == 0 or found, f"a run that nobody killed ended with {code}\n{self.story()}"
        return found

    def next_run(self) -> Run:
        """A run with transfers of its own."""
        self._runs += 1
        return Run(self.folder, self.url, self._runs, self.random.randrange(2**32), **self._options)

    def next_member(self, **changes: Any) -> Run:
        """A run that goes on until it is killed, or everything closes."""
        (self.folder / CLOSED).unlink(missing_ok=True)
        return replace(self.next_run(), member=True, **changes)

    def close(self) -> None:
        """Let every member finish what there is, and end."""
        (self.folder / CLOSED).touch()

    def shuffled(self, places: Iterable[str]) -> list[str]:
        """The places in an order that the seed decides."""
        listed = list(places)
        return self.random.sample(listed, len(listed))

    def story(self) -> str:
        """What is needed to repeat and to understand a failure."""
        log = self.folder / "process.log"
        last = log.read_text(encoding="utf-8", errors="replace")[-8_000:] if log.exists() else ""
        left = "\n".join(left_over(self.url)[:_MOST_LEFT_OVER])
        return f"PROMISES_SEED={self.seed} kills: {dict(self.kills)}\n{last}\nleft over:\n{left}"


@dataclass
class _Seat:
    """A place in a team: what whoever has it does, and where they die, one after the other."""

    roles: Collection[Role]
    places: deque[str]
    process: ForkServerProcess | None = None
    run: Run | None = None


class _Team:
    """Processes that work at the same time."""

    def __init__(self, campaign: Campaign, places: Sequence[str], members: int, *, share_roles: bool) -> None:
        self._campaign = campaign
        # One process relays at a time on SQLite: it has to be one of those that may die there.
        on_sqlite = campaign.url.startswith("sqlite")
        self._company: Collection[Role] = ("publish",) if on_sqlite else ROLES
        members = min(members, _MOST_ON_SQLITE) if on_sqlite else members
        everywhere = deque(places)
        self._seats = [_Seat(ROLES, everywhere) for _ in range(members)]
        if share_roles:
            moving = deque(place for place in places if place.startswith("uow."))
            carrying = deque(place for place in places if not place.startswith("uow."))
            for number in range(members):
                kind = (("publish",), moving) if number % 2 == 0 else (("relay", "consume"), carrying)
                self._seats[number] = _Seat(*kind)

    @property
    def is_needed(self) -> bool:
        """Whether somebody has to die still."""
        return any(seat.places or (seat.run is not None and seat.run.kill) for seat in self._seats)

    def fill(self) -> None:
        """Start who is missing; when there is no place to die at, to keep the others company."""
        for seat in self._seats:
            if seat.process is None:
                roles = seat.roles
                run = self._campaign.next_member()
                if seat.places:
                    place = seat.places.popleft()
                    occurrence = self._campaign.random.randint(1, min(_reached_at_least(place), _MOST_IN_A_TEAM))
                    run = replace(run, kill=(place, occurrence), heal=place == "replay.midway")
                elif roles == ROLES:
                    roles = self._company
                seat.run = replace(run, roles=roles, moves_money="publish" in roles)
                seat.process = start(seat.run)

    def bury(self) -> None:
        """Wait until somebody dies, where they were to."""
        ended = first_ended([seat.process for seat in self._seats if seat.process is not None])
        for seat in self._seats:
            if seat.process in ended:
                run, code = self._leave(seat)
                assert run.kill is not None, f"{run} ended with {code}\n{self._campaign.story()}"
                assert code == KILLED, f"{run} ended with {code}\n{self._campaign.story()}"
                self._campaign.kills[run.kill[0]] += 1

    def close(self) -> None:
        """Let those who are left finish."""
        self._campaign.close()
        for seat in self._seats:
            if seat.process is not None:
                run, code = self._leave(seat)
                assert code == 0, f"{run} ended with {code}\n{self._campaign.story()}"

    def end(self) -> None:
        """Leave nobody behind, whatever happened."""
        for seat in self._seats:
            if seat.process is not None:
                seat.process.kill()
                self._leave(seat)

    def _leave(self, seat: _Seat) -> tuple[Run, int]:
        process, run = seat.process, seat.run
        assert process is not None
        assert run is not None
        seat.process = seat.run = None
        return run, finish(process)


def _reached_at_least(place: str) -> int:
    return _REACHED_AT_LEAST.get(place, _OFTEN)
