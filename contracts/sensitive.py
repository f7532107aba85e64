"""Sensitive values: marked in the contract, masked wherever the toolkit shows an event to people.

    class CustomerMovedV1(IntegrationEvent):
        customer_id: Annotated[UUID, PartitionKey()]
        email: Annotated[str, Sensitive()]

    sensitive_fields(CustomerMovedV1)   # ("email",)

The mark hides a value from people who look at events, not from readers: on the wire and in the tables it stands as it
is. It may mark a field of the event or of a nested model, the elements of a sequence and the values of a mapping. The
paths are those of `simple`: `lines[].note`, `notes{}`. The JSON schema says it as `"x-sensitive": true`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from contracts.annotations import alternatives, complete, elements, is_alias, is_model, values

__all__ = ["Sensitive", "hides", "is_sensitive", "sensitive_fields"]


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Marks a value that is not for everybody's eyes."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "x-sensitive": True}


def is_sensitive(metadata: object) -> bool:
    """Tell whether an author meant to mark a value, brackets or not."""
    return isinstance(metadata, Sensitive) or metadata is Sensitive


def sensitive_fields(event_class: type[BaseModel]) -> tuple[str, ...]:
    """The paths of what is marked, in the order of the fields; a model within itself is entered once."""
    return tuple(dict.fromkeys(_in_model(event_class, "", ())))


def hides(annotation: Any) -> bool:
    """Whether anything of a value of this type is sensitive."""
    return next(_in_type(annotation, (), "", ()), None) is not None


def _in_model(model: type[BaseModel], path: str, above: tuple[Any, ...]) -> Iterator[str]:
    if model in above:
        return
    complete(model)
    found = {name: (field.annotation, tuple(field.metadata)) for name, field in model.model_fields.items()}
    found |= {name: (field.return_type, ()) for name, field in model.model_computed_fields.items()}
    for name, (annotation, metadata) in found.items():
        yield from _in_type(annotation, metadata, f"{path}.{name}" if path else name, (*above, model))


def _in_type(annotation: Any, metadata: tuple[object, ...], path: str, above: tuple[Any, ...]) -> Iterator[str]:
    if is_alias(annotation):
        if annotation in above:
            return
        above = (*above, annotation)
    found = list(alternatives(annotation, metadata))
    if any(is_sensitive(item) for _, marks in found for item in marks):
        yield path
        return
    for bare, _ in found:
        if is_model(bare):
            yield from _in_model(bare, path, above)
        for inner in elements(bare):
            yield from _in_type(inner, (), f"{path}[]", above)
        for inner in values(bare):
            yield from _in_type(inner, (), f"{path}{{}}", above)
