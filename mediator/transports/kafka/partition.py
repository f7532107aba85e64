"""How far a member has come in one partition: what it was given, what is settled, what comes again.

    settled_up_to     all before it is settled: where the next owner begins
    reached           where this one reads on
    delivered_up_to   all before it was handed out at least once, by this owner or one before

Kafka keeps one offset per group and partition, and not which records were handed out. So the last one is committed too,
for a group of its own and before anything is handed out: what kills its process is a redelivery for the next owner.
"""

from aiokafka import TopicPartition

__all__ = ["Partition"]

_MOST_AHEAD = 10_000


class Partition:
    """A partition that is read, or was until its lane was given up."""

    def __init__(self, place: TopicPartition, epoch: int, begin: int, delivered: int) -> None:
        self.place, self.epoch, self.reached = place, epoch, begin
        self.delivered_up_to = self._before_me = max(begin, delivered)
        self.committed = begin
        """What the broker knows of `settled_up_to`."""
        # In the order of their offsets: they are read in that order, and one that comes again keeps its place.
        self._attempts: dict[int, int] = {}
        self._settled: set[int] = set()

    @property
    def settled_up_to(self) -> int:
        return min(self.reached, next(iter(self._attempts), self.reached))

    @property
    def is_full(self) -> bool:
        """Whether so much is settled behind something unsettled that nothing more is read for now."""
        return len(self._settled) >= _MOST_AHEAD

    def is_settled(self, offset: int) -> bool:
        """Whether a record that is read again was taken care of already."""
        return offset in self._settled

    def deliver(self, offset: int) -> int:
        """Hand out a record; gives which attempt it is."""
        attempt = self._attempts.get(offset, 1 if offset < self._before_me else 0) + 1
        self._attempts[offset] = attempt
        self.delivered_up_to = max(self.delivered_up_to, offset + 1)
        return attempt

    def settle(self, offset: int) -> None:
        """Never hand it out again."""
        if self._attempts.pop(offset, None) is not None:
            self._settled.add(offset)

    def give_back(self, offset: int, epoch: int) -> None:
        """Read again from a record on."""
        self.reached, self.epoch = offset, epoch

    def commit(self, offset: int) -> None:
        """Remember what the broker knows, and forget what lies before."""
        self.committed = offset
        self._settled = {settled for settled in self._settled if settled >= offset}
