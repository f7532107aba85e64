"""Limits for what comes over the wire, and for what goes out, checked before anything is decoded further.

Python's `json` takes NaN, infinities, duplicate keys (the last one wins), lone surrogates and NUL; databases and other
languages do not. A body is read strictly once, and what is refused is named with its path.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from mediator.errors import UnreadableMessageError

__all__ = ["Limits", "read_json"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Limits(BaseModel):
    """What an envelope may hold, and how many of them may be published at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: int = Field(default=256 * 1024, ge=1, le=1024 * 1024)
    depth: int = Field(default=32, ge=1, le=100)
    nodes: int = Field(default=10_000, ge=1, le=100_000)
    headers: int = Field(default=64, ge=0, le=128)
    header_name_characters: int = Field(default=64, ge=1, le=128)
    header_value_bytes: int = Field(default=1024, ge=1, le=8192)
    published_at_once: int = Field(
        default=5_000, ge=1, le=1_000_000, description="integration events of one unit of work, all kept in memory"
    )

    def check_headers(self, headers: Mapping[str, Any]) -> None:
        """Raise UnreadableMessageError for headers that are too many, too long or hold control characters."""
        if len(headers) > self.headers:
            raise UnreadableMessageError("headers", "headers", f"{len(headers)} of them, at most {self.headers}")
        for name, value in headers.items():
            where = f"header {name[:64]!r}"
            if not isinstance(value, str):
                raise UnreadableMessageError("headers", where, f"the value is {type(value).__name__}, not text")
            if not 0 < len(name) <= self.header_name_characters or not name.isascii() or not name.isprintable():
                raise UnreadableMessageError("headers", where, "the name is empty, too long or not printable ASCII")
            if _UNPRINTABLE.search(value):
                raise UnreadableMessageError("headers", where, "the value holds control characters or lone surrogates")
            if len(value.encode()) > self.header_value_bytes:
                raise UnreadableMessageError("headers", where, f"the value exceeds {self.header_value_bytes} bytes")


def read_json(body: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object in `body`, read strictly; raises UnreadableMessageError with a reason and a path."""
    if len(body) > limits.body_bytes:
        raise UnreadableMessageError("too large", "body", f"{len(body)} bytes, at most {limits.body_bytes}")
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except UnicodeDecodeError as error:
        raise UnreadableMessageError("encoding", f"byte {error.start}", "not UTF-8") from error
    except RecursionError as error:
        raise UnreadableMessageError("too deep", "body", f"nested deeper than {limits.depth}") from error
    except json.JSONDecodeError as error:
        raise UnreadableMessageError("json", f"character {error.pos}", error.msg) from error
    except ValueError as error:
        raise UnreadableMessageError("json", "body", str(error)) from error
    if not isinstance(data, dict):
        raise UnreadableMessageError("json", "body", f"a {type(data).__name__} instead of an object")
    _inspect(data, limits)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is out of range")
    return number


def _inspect(data: dict[str, Any], limits: Limits) -> None:
    # A stack of its own instead of recursion: the depth is an attacker's choice.
    nodes = 1
    waiting: list[tuple[str, int, Any]] = [("", 1, data)]
    while waiting:
        path, depth, value = waiting.pop()
        if isinstance(value, str):
            _inspect_text(path, value)
        elif isinstance(value, (dict, list)):
            if depth > limits.depth:
                raise UnreadableMessageError("too deep", path[:200], f"nested deeper than {limits.depth}")
            # Counted before any of them gets a path: that costs more than to read them did.
            nodes += len(value)
            if nodes > limits.nodes:
                raise UnreadableMessageError("too many nodes", "body", f"more than {limits.nodes} values")
            if isinstance(value, dict):
                for name, inner in value.items():
                    _inspect_text(path, name)
                    waiting.append((f"{path}.{name}" if path else name, depth + 1, inner))
            else:
                waiting.extend((f"{path}[{index}]", depth + 1, inner) for index, inner in enumerate(value))


def _inspect_text(path: str, text: str) -> None:
    if "\0" in text:
        raise UnreadableMessageError("text", path[:200], "NUL in a string, which databases refuse")
    if _LONE_SURROGATE.search(text):
        raise UnreadableMessageError("text", path[:200], "a lone surrogate, which is no character")
