"""An enum that survives values which it does not know.

    class Channel(OpenEnum):
        WEB = "web"
        SHOP = "shop"

    Channel("kiosk")               # <Channel unknown: 'kiosk'>
    Channel("kiosk").is_known      # False

A publisher that gives a plain enum one more member breaks every reader that has not been told: the event becomes a dead
letter. An open enum keeps the value as it came: equal to the text, hashed and sorted like it, and written as the same
text again. Its JSON schema is a string.

Two unknown members of one value are equal and not identical, so compare with `==` or `match`, not with `is`. Nothing
remembers them: a sender of ever new values fills no memory.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

__all__ = ["OpenEnum"]


class OpenEnum(StrEnum):
    """Texts of which some are known by name; a subclass lists those."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # A subclass of str would bring along what its author makes of equality; other types are mistakes.
        if type(value) is not str:
            return None
        member = str.__new__(cls, value)
        member._name_ = ""  # no member that an author writes has this name
        member._value_ = value
        return member

    @property
    def is_known(self) -> bool:
        """Whether the value is one of those that the class lists."""
        return self._value_ in type(self)._value2member_map_

    if TYPE_CHECKING:
        # Type checkers take an enum for closed, and call what follows the last known member unreachable. They do not
        # conclude that from a comparison that a class defines itself. At run time it is str's.
        def __eq__(self, other: object, /) -> bool: ...
        def __hash__(self) -> int: ...
        @property
        def value(self) -> str: ...

    def __repr__(self) -> str:
        return super().__repr__() if self.is_known else f"<{type(self).__name__} unknown: {self._value_!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:  # some versions of Python look the member up by its name
        return type(self), (self._value_,)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = handler(schema)
        open_schema = handler.resolve_ref_schema(written)
        known = [member.value for member in cls]
        open_schema.pop("enum", None)
        open_schema.update({"type": "string", "examples": known, "x-known-values": known})
        return written
