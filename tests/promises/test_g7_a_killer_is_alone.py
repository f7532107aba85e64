"""G7, with a handler that kills its process: it dies for that, and for nobody else."""

import subprocess
import sys
from pathlib import Path

from tests.promises.killer import EVENTS, RETRIES, effects_and_letters

_MOST_STARTS = 20


def test_an_event_that_kills_the_process_ends_as_dead_for_the_handler_that_does(tmp_path: Path) -> None:
    file = tmp_path / "killer.db"
    codes: list[int] = []
    while 0 not in codes and len(codes) < _MOST_STARTS:
        codes.append(subprocess.run([sys.executable, "-m", "tests.promises.killer", str(file)], check=False).returncode)

    effects, letters = effects_and_letters(file)
    assert codes[-1] == 0, codes
    # Two kills before anybody counts (the commit's own process, and the first delivery after it), then every attempt.
    assert RETRIES <= codes.count(9) <= RETRIES + 2
    assert effects == [("slow", number) for number in range(EVENTS)]
    assert letters == [("mail.kill", RETRIES)]
