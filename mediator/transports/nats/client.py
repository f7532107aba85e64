"""nats-py, which reads whatever anybody has published.

The server takes any bytes as the headers of a message, and nearly any in a subject. nats-py stops reading for good at
those that are no text, and ends the connection at a subject with a form feed, which it takes for a blank. A stream
hands such a message out again on every new connection, so that nothing behind it would ever arrive.
"""

import re
from contextlib import suppress
from types import FunctionType
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol import parser

__all__ = ["TolerantClient"]

# As the server writes them: a blank, or none, between words of whatever else.
_WORDS: Final = rb"([^ \t\r\n]+)[ \t]+([^ \t\r\n]+)[ \t]+(([^ \t\r\n]+)[ \t]+)?"
_MSG_RE: Final = re.compile(rb"\AMSG[ \t]+" + _WORDS + rb"(\d+)\r\n")
_HMSG_RE: Final = re.compile(rb"\AHMSG[ \t]+" + _WORDS + rb"(\d+)[ \t]+(\d+)\r\n")


class _Parser(parser.Parser):
    # The same, with these in place of the module's own: there is no other way to give it them.
    parse = FunctionType(
        parser.Parser.parse.__code__, {**vars(parser), "MSG_RE": _MSG_RE, "HMSG_RE": _HMSG_RE}, "parse", (b"",)
    )


class TolerantClient(Client):
    """Also tells no password to a server that does not encrypt, when it should: nats-py would."""

    def __init__(self, *, must_encrypt: bool) -> None:
        super().__init__()
        self._ps = _Parser(self)
        self._must_encrypt = must_encrypt

    def _connect_command(self) -> bytes:
        if self._must_encrypt and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not require TLS")
        return super()._connect_command()

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, LookupError):
            return None  # not even the first line is one of NATS

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Those that are text, and of several with one name the last. nats-py fills up what is none."""
        found = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            with suppress(UnicodeDecodeError):
                if colon:
                    found[name.strip().decode()] = value.strip().decode()
        return found

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Msg:
        text = subject.decode(errors="backslashreplace").encode()
        message: Msg = super()._build_message(sid, text, reply, data, headers)
        return message
