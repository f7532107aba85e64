"""Slots are owned by a lock that dies with its holder."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS
from mediator.storage.slots import SlotLocks

ALL = frozenset(range(SLOTS))


def hold(url: str, told: Connection) -> None:
    locks = SlotLocks(Database(url))
    told.send(len(locks.acquire()))
    told.recv()


def test_one_relay_at_a_time_owns_the_slots(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    one, other = SlotLocks(Database(url)), SlotLocks(Database(url))

    assert one.acquire() == ALL
    assert one.acquire() == ALL
    assert other.acquire() == frozenset()
    one.release()
    assert other.acquire() == ALL
    other.release()


def test_two_databases_do_not_share_a_lock(tmp_path: Path) -> None:
    one = SlotLocks(Database(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}"))
    other = SlotLocks(Database(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"))

    assert one.acquire() == other.acquire() == ALL
    one.release()
    other.release()


def test_a_killed_process_owns_nothing_any_more(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(url, there))
    process.start()
    assert here.recv() == SLOTS
    mine = SlotLocks(Database(url))
    assert mine.acquire() == frozenset()

    process.kill()
    process.join()

    assert mine.acquire() == ALL
    mine.release()
    for end in (here, there):
        end.close()


def test_a_database_in_memory_belongs_to_its_process() -> None:
    locks = SlotLocks(Database("sqlite+aiosqlite://"))

    assert locks.acquire() == ALL
    locks.release()
