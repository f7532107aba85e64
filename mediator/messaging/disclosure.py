"""What an error may tell of an event: everything, unless its contract marks values as sensitive.

    raise UnreadableMessageError("schema", *refused(error, wanted)) from cause(error, wanted)

An error's text ends up in logs and dead letters, where many look. pydantic's own texts do not repeat the value that
they refuse, but the text of a validator or an upcaster may (`int("ann@example.org")` does), and so do the traceback of
a ValidationError, the tag of a union and the key of a mapping. Of an event with sensitive fields these are kept back,
and the kind and the place of the error have to do.
"""

from typing import Final, TypeAlias, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from contracts import IntegrationEvent, sensitive_fields
from contracts.masking import is_hidden, visible_location

__all__ = ["cause", "refused", "told"]

_Event: TypeAlias = type[IntegrationEvent]
_REPEAT_NO_VALUE: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error", "union_tag_invalid"}
"""Kinds of errors whose text is pydantic's own; the others have that of a validator, or hold a value."""


def refused(error: ValidationError, event_class: _Event, *others: _Event) -> tuple[str, str]:
    """Where the first value stands that does not fit, and what is wrong with it; `others` is what it was before."""
    first = error.errors(include_url=False, include_input=False)[0]
    location, what = first["loc"], first["msg"]
    if any(map(sensitive_fields, others)):
        # Nobody knows where their values have gone.
        location, what = (location[:1], first["type"])
    elif sensitive_fields(event_class):
        if first["type"] not in _REPEAT_NO_VALUE or is_hidden(location, event_class):
            what = f"{first['type']}; the text is kept back, for the event has sensitive fields"
        location = visible_location(location, event_class)
    where = ".".join(map(str, location)) or "body"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return where, f"{what}{more}"


def told(error: BaseException, *event_classes: _Event) -> str:
    """The kind of an error, and its text where nothing is sensitive."""
    kind = type(error).__name__
    if not any(map(sensitive_fields, event_classes)):
        return f"{kind}: {error}"
    if isinstance(error, ValidationError):
        return " at ".join((kind, ": ".join(refused(error, event_classes[0]))))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
    return f"{kind}{place}; its text is kept back, for the event has sensitive fields"


def cause(error: BaseException, *event_classes: _Event) -> BaseException | None:
    """What an error is raised `from`: where a traceback shows the cause, it shows its text and its values."""
    return None if any(map(sensitive_fields, event_classes)) else error
