"""What is said on a connection to a database: enough of the protocols of PostgreSQL and MySQL to notice a COMMIT.

A side of a conversation is cut into messages. Of the client's, it is known which statement they run, also if it was
prepared earlier under a name; of the server's, which of them says how a COMMIT ended.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "Conversation",
    "Message",
    "MySQLConversation",
    "PlainConversation",
    "PostgreSQLConversation",
]

_COMMIT = re.compile(r"\s*(COMMIT|END)(\s+(WORK|TRANSACTION))?\s*;?\s*", re.IGNORECASE)
_END = re.compile(r"\s*(COMMIT|END|ROLLBACK|ABORT)\b(?!\s+(WORK\s+)?TO\b|\s+PREPARED)", re.IGNORECASE)
_NO_ENCRYPTION = b"N"
_SSL_REQUEST, _GSSENC_REQUEST = 80877103, 80877104
_COM_QUERY = 3
_HEAD = 5


@dataclass(frozen=True)
class Message:
    """Bytes that belong together."""

    data: bytes
    statement: str | None = None
    """The SQL that a client's message runs."""
    answer: bytes = b""
    """What the client is answered at once; the server is not told of the message then."""
    ends_commit: bool = False
    """Whether a server's message says how a COMMIT ended, provided that one was asked for."""

    @property
    def is_commit(self) -> bool:
        """Whether a client's message asks for a COMMIT."""
        return self.statement is not None and _COMMIT.fullmatch(self.statement) is not None

    @property
    def ends_transaction(self) -> bool:
        """Whether a client's message asks for the end of the transaction, one way or the other."""
        return self.statement is not None and _END.match(self.statement) is not None


class Conversation(ABC):
    """Both sides of one connection."""

    def __init__(self) -> None:
        self._unread_of_client = self._unread_of_server = b""

    def from_client(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        messages, self._unread_of_client = _cut(self._unread_of_client + data, self._client_size, self._client_message)
        return messages

    def from_server(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        messages, self._unread_of_server = _cut(self._unread_of_server + data, self._server_size, self._server_message)
        return messages

    @abstractmethod
    def _client_size(self, head: bytes) -> int:
        """The length of the message that begins so, or 0 when more is needed to know."""

    @abstractmethod
    def _server_size(self, head: bytes) -> int:
        """The length of the message that begins so, or 0 when more is needed to know."""

    @abstractmethod
    def _client_message(self, data: bytes) -> Message: ...

    @abstractmethod
    def _server_message(self, data: bytes) -> Message: ...


def _cut(data: bytes, size_of: Callable[[bytes], int], read: Callable[[bytes], Message]) -> tuple[list[Message], bytes]:
    messages, start = [], 0
    while start < len(data):
        size = size_of(data[start : start + _HEAD])
        if size == 0 or start + size > len(data):
            break
        messages.append(read(data[start : start + size]))
        start += size
    return messages, data[start:]


class PlainConversation(Conversation):
    """A protocol that knows no COMMIT: bytes pass as they come."""

    def from_client(self, data: bytes) -> list[Message]:
        return [Message(data)]

    def from_server(self, data: bytes) -> list[Message]:
        return [Message(data)]

    def _client_size(self, head: bytes) -> int:
        raise NotImplementedError("nothing is cut")

    _server_size = _client_size

    def _client_message(self, data: bytes) -> Message:
        return Message(data)

    _server_message = _client_message


class PostgreSQLConversation(Conversation):
    """A type, a length, a content; only the first message has no type. Encryption is declined."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def _client_size(self, head: bytes) -> int:
        if self._started:
            return self._server_size(head)
        return int.from_bytes(head[:4]) if len(head) >= 4 else 0

    def _server_size(self, head: bytes) -> int:
        return 1 + int.from_bytes(head[1:5]) if len(head) >= 5 else 0

    def _client_message(self, data: bytes) -> Message:
        if not self._started:
            if int.from_bytes(data[4:8]) in {_SSL_REQUEST, _GSSENC_REQUEST}:
                return Message(data, answer=_NO_ENCRYPTION)
            self._started = True
            return Message(data)
        kind, content = data[:1], data[5:]
        if kind == b"Q":
            return Message(data, statement=content.rstrip(b"\0").decode())
        if kind == b"P":
            name, statement, _ = content.split(b"\0", 2)
            self._prepared[name] = statement.decode()
        elif kind == b"B":
            portal, name, _ = content.split(b"\0", 2)
            self._portals[portal] = self._prepared.get(name, "")
        elif kind == b"E":
            return Message(data, statement=self._portals.get(content.split(b"\0", 1)[0], ""))
        return Message(data)

    def _server_message(self, data: bytes) -> Message:
        kind, content = data[:1], data[5:]
        return Message(data, ends_commit=kind == b"E" or (kind == b"C" and content in {b"COMMIT\0", b"ROLLBACK\0"}))


class MySQLConversation(Conversation):
    """A length, a number, a content. A command is number 0, and the next that the server says is the answer."""

    def _client_size(self, head: bytes) -> int:
        return 4 + int.from_bytes(head[:3], "little") if len(head) >= 4 else 0

    _server_size = _client_size

    def _client_message(self, data: bytes) -> Message:
        is_query = data[3] == 0 and data[4:5] == bytes([_COM_QUERY])
        return Message(data, statement=data[5:].decode(errors="replace") if is_query else None)

    def _server_message(self, data: bytes) -> Message:
        return Message(data, ends_commit=True)
