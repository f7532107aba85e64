"""G7, with a handler that kills its process: it dies for that, and for nobody else."""

import subprocess
import sys

import pytest

from tests.promises.killer import EVENTS, RETRIES, effects_and_letters

_MOST_STARTS = 20


@pytest.mark.timeout(600)
@pytest.mark.every_database
def test_an_event_that_kills_the_process_ends_as_dead_for_the_handler_that_does(database_url: str) -> None:
    command, codes = [sys.executable, "-m", "tests.promises.killer", database_url], list[int]()
    while 0 not in codes and len(codes) < _MOST_STARTS:
        codes.append(subprocess.run([*command, *([] if codes else ["first"])], check=False).returncode)

    effects, letters = effects_and_letters(database_url)
    assert codes[-1] == 0, codes
    # Two kills before anybody counts (the commit's own process, and the first delivery after it), then every attempt.
    assert RETRIES <= codes.count(9) <= RETRIES + 2
    assert effects == [("slow", number) for number in range(EVENTS)]
    assert letters == [("mail.kill", RETRIES)]
