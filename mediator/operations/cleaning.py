"""Cleaning: every few minutes, what has expired is removed in small batches. Dead letters stay until a person acts."""

import asyncio
from datetime import timedelta

import structlog
from pydantic import BaseModel, ConfigDict, Field

from mediator.messaging.supervision import ended, happens, keep_running
from mediator.storage.database import Database
from mediator.storage.engines import is_transient
from mediator.storage.partitions import tend_partitions
from mediator.storage.retention import purge_dead, purge_discarded, purge_inbox, purge_locks, purge_sent

__all__ = ["Cleaner", "RetentionSettings"]

log = structlog.get_logger(__name__)
_UNUSED_LOCKS = timedelta(days=1)


class RetentionSettings(BaseModel):
    """How long what is finished is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sent: timedelta = Field(
        default=timedelta(days=1), ge=timedelta(0), description="history of sent events; 0 keeps none"
    )
    inbox: timedelta = Field(default=timedelta(days=30), ge=timedelta(minutes=1), description="reach of deduplication")
    inbox_partition: timedelta | None = Field(
        default=None,
        ge=timedelta(hours=1),
        le=timedelta(days=366),
        description="on PostgreSQL, the time that one partition of the inbox is for; None keeps it one table",
    )
    discarded: timedelta = Field(
        default=timedelta(days=30), ge=timedelta(0), description="discarded letters, from the discard on"
    )
    dead: timedelta | None = Field(default=None, ge=timedelta(days=1), description="dead letters; None keeps them")
    every: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0))
    batch: int = Field(default=1_000, ge=1, le=10_000, description="rows removed in one transaction")


class Cleaner:
    """Cleans one database."""

    def __init__(self, database: Database, settings: RetentionSettings) -> None:
        self._database, self._settings = database, settings
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to clean in the background."""
        self._task = asyncio.create_task(keep_running("cleaner", self._run, is_outage=is_transient), name="cleaner")

    async def stop(self) -> None:
        """End at once: what is not cleaned now is cleaned after the next start."""
        self._stopped.set()
        if self._task is not None:
            await ended([self._task])

    async def clean(self) -> int:
        """Remove everything that has expired by now; gives the number of rows."""
        settings, removed = self._settings, 0
        if settings.inbox_partition is not None:
            removed = await tend_partitions(self._database, settings.inbox_partition, settings.inbox, settings.batch)
        for purge, age in (
            (purge_sent, settings.sent),
            (purge_inbox, settings.inbox),
            (purge_discarded, settings.discarded),
            (purge_dead, settings.dead),
            (purge_locks, _UNUSED_LOCKS),
        ):
            while age is not None and (rows := await purge(self._database, age, settings.batch)):
                removed += rows
                if self._stopped.is_set():
                    return removed
                # Others get their turn between two batches.
                await asyncio.sleep(0)
        return removed

    async def _run(self) -> None:
        while not self._stopped.is_set():
            if removed := await self.clean():
                log.info("storage.cleaned", rows=removed)
            await happens(self._stopped, self._settings.every.total_seconds())
