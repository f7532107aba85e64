"""Records whose headers have names that are no text, made readable.

Kafka's protocol says that the name of a header is UTF-8, and brokers keep whatever bytes somebody has sent. aiokafka
fails at such a record, and would meet it again each time it reads its partition. So once that has happened, what is
fetched is looked at before the client sees it: bytes of a name that are no ASCII are replaced, one for one.
"""

import struct
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.util import calc_crc32c, decode_varint

__all__ = ["repaired"]

_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_NEWEST_MAGIC: Final = 2
_LENGTH_AT, _MAGIC_AT, _CRC_AT, _ATTRIBUTES_AT = 8, 16, 17, 21
_BEFORE_LENGTH: Final = 12
_CODEC: Final = 0b111


def repaired(batches: bytes) -> bytes:
    """The same batches, with names of headers that are text; what is incomplete stays as it is."""
    found, position = bytearray(), 0
    while len(batches) - position > _HEAD.size:
        end = position + _BEFORE_LENGTH + int.from_bytes(batches[position + _LENGTH_AT :][:4])
        if end > len(batches):
            break
        found += _batch(batches[position:end])
        position = end
    return bytes(found) + batches[position:]


def _batch(batch: bytes) -> bytes:
    if batch[_MAGIC_AT] != _NEWEST_MAGIC or _is_readable(batch):
        return batch
    head = bytearray(batch[: _HEAD.size])
    unpacked = _DefaultRecordBatchPy(bytearray(batch))
    unpacked._maybe_uncompress()  # noqa: SLF001 - it is asked for by reading a record, which fails
    records = unpacked._buffer[unpacked._pos :]  # noqa: SLF001
    # It is no longer compressed.
    head[_ATTRIBUTES_AT + 1] &= ~_CODEC
    position = 0
    for _ in range(int.from_bytes(head[-4:])):
        size, position = decode_varint(records, position)
        _rename(records, position)
        position += size
    head[_LENGTH_AT:_BEFORE_LENGTH] = (len(head) + len(records) - _BEFORE_LENGTH).to_bytes(4)
    head[_CRC_AT:_ATTRIBUTES_AT] = calc_crc32c(bytes(head[_ATTRIBUTES_AT:] + records)).to_bytes(4)
    return bytes(head + records)


def _is_readable(batch: bytes) -> bool:
    try:
        for _ in DefaultRecordBatch(batch):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _rename(records: bytearray, position: int) -> None:
    """Attributes, the differences of time and offset, key and value; then the headers."""
    position += 1
    for _ in range(2):
        _, position = decode_varint(records, position)
    for _ in range(2):
        position = _behind(records, position)
    count, position = decode_varint(records, position)
    for _ in range(count):
        length, begin = decode_varint(records, position)
        name = records[begin : begin + length].decode("ascii", errors="replace")
        records[begin : begin + length] = name.replace("\N{REPLACEMENT CHARACTER}", "?").encode()
        position = _behind(records, begin + length)


def _behind(records: bytearray, position: int) -> int:
    length, position = decode_varint(records, position)
    return int(position + max(length, 0))
