"""Ids sort by the time they were made, in one process, over threads and after a fork."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from contracts import identifiers, uuid7


def test_an_id_is_a_version_7_uuid_of_the_rfc_variant() -> None:
    made = uuid7()

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_an_id_begins_with_the_milliseconds_of_its_making() -> None:
    before = time.time_ns() // 1_000_000
    fresh = identifiers._Generator()()
    after = time.time_ns() // 1_000_000

    assert before <= fresh.int >> 80 <= after


def test_every_id_is_greater_than_the_one_before() -> None:
    ids = [uuid7() for _ in range(20_000)]

    assert ids == sorted(set(ids))


def test_ids_still_grow_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)

    assert uuid7() > first


def test_a_millisecond_that_is_used_up_carries_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    generate = identifiers._Generator()
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000)
    generate._last = 5 << 74 | (1 << 74) - 1
    made = generate()

    assert made.int >> 80 == 6
    assert made.version == 7


def test_threads_never_share_an_id_and_each_sees_its_own_grow() -> None:
    def make(_: int) -> list[UUID]:
        return [uuid7() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(make, range(16)))

    assert all(batch == sorted(batch) for batch in batches)
    assert len({made for batch in batches for made in batch}) == 32_000


def test_threads_count_one_after_the_other() -> None:
    generate = identifiers._Generator()
    with ThreadPoolExecutor(1) as pool:
        with generate._lock:
            waiting = pool.submit(generate)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.1)

        assert waiting.result(timeout=5).version == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_on_its_own_and_waits_for_no_lock_of_its_parent() -> None:
    reader, writer = os.pipe()
    generator = identifiers._generate
    uuid7()
    generator._lock.acquire()
    child = os.fork()
    if child == 0:
        free = generator._lock.acquire(timeout=5)
        os.write(writer, f"{free} {generator._last}".encode())
        os._exit(0)
    generator._lock.release()
    os.waitpid(child, 0)

    assert os.read(reader, 100) == b"True 0"
    os.close(reader)
    os.close(writer)
