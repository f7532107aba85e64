"""The two schemas of a model: what it reads, and what it writes.

    schemas = schemas_of(OrderPlacedV1)
    schemas.reads     # "lines" is optional, a Decimal comes as text or as a number
    schemas.writes    # "lines" is always there, a Decimal is text

They are pydantic's JSON schemas (`validation` and `serialization`), made to say what really travels. Pydantic alone
would name a nested field by its alias although the model writes its name, call a field optional that is always written,
and keep silent about the bounds of a date, the schemes of a URL, or that a text is stripped before it is measured.
What JSON Schema has no word for stands under `x-checks`, the names under which a field is found under `x-names`, and
the first steps of longer paths (`AliasPath`) under `x-paths`.

Titles and examples are left out. The rest depends as little as possible on pydantic's version: the schemas are kept for
years and compared with those of later ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from re import Pattern
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit, to_jsonable_python

from mediator.operations.compatibility.schemas.tidying import tidy

__all__ = ["Schema", "Schemas", "schemas_of"]

Schema: TypeAlias = dict[str, Any]

_NOT_CHECKS = frozenset(
    {"type", "ref", "metadata", "serialization", "strict", "pattern", "min_length", "max_length", "regex_engine"}
)


@dataclass(frozen=True, slots=True)
class Schemas:
    """What a class reads and what it writes."""

    reads: Schema
    writes: Schema


def schemas_of(model: type[BaseModel]) -> Schemas:
    """The schemas of a model as it is used for events."""
    return Schemas(
        tidy(model.model_json_schema(schema_generator=_Exact, mode="validation")),
        tidy(model.model_json_schema(schema_generator=_Exact, mode="serialization")),
    )


class _Exact(GenerateJsonSchema):
    """Pydantic's generator, where it says less than what happens."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - pydantic's own declaration

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._models: list[Mapping[str, Any]] = []

    def model_schema(self, schema: Any) -> Schema:
        self._models.append(schema["cls"].model_config)
        try:
            return super().model_schema(schema)
        finally:
            self._models.pop()

    def model_fields_schema(self, schema: Any) -> Schema:
        properties, required = {}, []
        fields = [(name, field) for name, field in schema["fields"].items() if self.field_is_present(field)]
        if self.mode == "serialization":
            fields += [(field["property_name"], field) for field in schema.get("computed_fields", ())]
        for field_name, field in fields:
            names, hidden = self._names(field_name, field)
            try:
                found = dict(self.generate_inner(field))
            except PydanticOmit:
                found = {}
            if names[1:] or hidden:
                found["x-names"] = names
            if hidden:
                found["x-paths"] = hidden
            key = names[0]
            if key in properties and self.mode == "serialization":
                found = {}  # two fields write one name: what a reader takes may be either
            elif key in properties:
                key, found["x-names"] = f"{key} ({field_name})", names
            properties[key] = found
            if self._is_certain(field):
                required.append(key)
        return {"type": "object", "properties": properties, "required": required}

    def _is_certain(self, field: Any) -> bool:
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return bool(field["schema"]["type"] != "default")

    def _names(self, name: str, field: Any) -> tuple[list[str], list[str]]:
        """The names in JSON in the order in which they are tried, and the first steps of longer paths."""
        config = self._models[-1] if self._models else {}
        if self.mode == "serialization":
            alias = field.get("serialization_alias", field.get("alias", name))
            return [alias if config.get("serialize_by_alias") else name], []
        aliases = field.get("validation_alias", name)
        if isinstance(aliases, str):
            aliases = [[aliases]]
        elif not isinstance(aliases[0], list):
            aliases = [aliases]
        by_alias = config.get("validate_by_alias", True)
        by_name = config.get("validate_by_name") or config.get("populate_by_name") or not by_alias
        found = [path[0] for path in aliases if len(path) == 1] if by_alias else []
        hidden = [path[0] for path in aliases if len(path) > 1] if by_alias else []
        found += [name] if by_name or not found else []
        return list(dict.fromkeys(found)), hidden

    def decimal_schema(self, schema: Any) -> Schema:
        kinds = ["string", "number"] if self.mode == "validation" else ["string"]
        return _with_checks({"type": kinds, "format": "decimal"}, schema)

    def str_schema(self, schema: Any) -> Schema:
        found = super().str_schema(schema)
        config = self._models[-1] if self._models else {}
        kept = ("strip_whitespace", "to_lower", "to_upper")
        checks: dict[str, Any] = {name: True for name in kept if schema.get(name, config.get(f"str_{name}"))}
        if schema.get("ascii_only"):
            checks["ascii_only"] = True
        pattern = schema.get("pattern")
        if pattern is not None:
            engine = schema.get("regex_engine") or config.get("regex_engine") or "rust-regex"
            if isinstance(pattern, Pattern):
                checks["flags"] = pattern.flags
            elif engine != "rust-regex":
                checks["engine"] = engine
        return {**found, "x-checks": checks} if checks else found

    def date_schema(self, schema: Any) -> Schema:
        return self._temporal("date", schema, "ser_json_temporal")

    def time_schema(self, schema: Any) -> Schema:
        return self._temporal("time", schema, "ser_json_temporal")

    def datetime_schema(self, schema: Any) -> Schema:
        return self._temporal("date-time", schema, "ser_json_temporal")

    def timedelta_schema(self, schema: Any) -> Schema:
        return self._temporal("duration", schema, "ser_json_temporal", "ser_json_timedelta")

    def _temporal(self, form: str, schema: Any, *settings: str) -> Schema:
        config = self._models[-1] if self._models else {}
        unit = next((config[name] for name in settings if name in config), "iso8601")
        if unit == "iso8601":
            return _with_checks({"type": "string", "format": form}, schema)
        kinds = ["string", "number"] if self.mode == "validation" else ["number"]
        return _with_checks({"type": kinds, "format": form}, {**schema, "unit": unit})

    def url_schema(self, schema: Any) -> Schema:
        return _with_checks(super().url_schema(schema), schema)

    def multi_host_url_schema(self, schema: Any) -> Schema:
        return _with_checks(super().multi_host_url_schema(schema), schema)

    def uuid_schema(self, schema: Any) -> Schema:
        return _with_checks(super().uuid_schema(schema), schema)

    def dict_schema(self, schema: Any) -> Schema:
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {"type": "string"}
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else {}
        found: Schema = {"type": "object", "additionalProperties": values, "propertyNames": keys}
        self.update_with_validations(found, schema, self.ValidationsMapping.object)
        return found

    def nullable_schema(self, schema: Any) -> Schema:
        return {"anyOf": [self._choice(schema["schema"]), {"type": "null"}]}

    def union_schema(self, schema: Any) -> Schema:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        return {"anyOf": [self._choice(choice) for choice in choices]}

    def tagged_union_schema(self, schema: Any) -> Schema:
        found = schema["discriminator"]
        if callable(found):
            names: Any = f"{found.__module__}.{found.__qualname__}"
        elif isinstance(found, str):
            names = [found]
        else:
            paths = found if isinstance(found[0], list) else [found]
            names = [path[0] for path in paths] if all(len(path) == 1 for path in paths) else str(paths)
        tags = [tag.value if isinstance(tag, Enum) else tag for tag in schema["choices"]]
        choices = [self._choice(choice) for choice in schema["choices"].values()]
        return {"oneOf": choices, "x-discriminator": names, "x-tags": tags}

    def _choice(self, choice: Any) -> Schema:
        # What SkipJsonSchema hides is written all the same: it may be anything then. A reader is not credited with it.
        try:
            return self.generate_inner(choice)
        except PydanticOmit:
            return {} if self.mode == "serialization" else {"enum": []}

    def ser_schema(self, schema: Any) -> Schema | None:
        function = schema.get("function")
        ours = function is not None and not str(getattr(function, "__module__", "")).startswith("pydantic")
        if ours and schema.get("return_schema") is None:
            return {}  # a serializer that does not say what it returns
        return super().ser_schema(schema)


def _with_checks(found: Schema, schema: Mapping[str, Any]) -> Schema:
    checks = {
        name: _exact(value)
        for name, value in schema.items()
        if name not in _NOT_CHECKS and value is not None and not name.startswith("cls") and not callable(value)
    }
    # A bound of zero is equal to False in Python, and no default.
    checks = {
        name: value for name, value in checks.items() if value is not False and value not in ("truncate", "infer")
    }
    return {**found, "x-checks": checks} if checks else found


def _exact(value: Any) -> Any:
    """A bound as JSON that loses nothing and is sorted like the value."""
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return moment.isoformat(timespec="microseconds")
    if isinstance(value, time_of_day):
        text = value.isoformat(timespec="microseconds")
        return text if value.tzinfo is None else {"time": text}  # as texts, offsets are in no order
    if isinstance(value, Decimal | date):
        return str(value)
    return to_jsonable_python(value, fallback=str)
