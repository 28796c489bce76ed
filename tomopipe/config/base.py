"""The base class of all blocks of the configuration, and which of their options are in effect.

Results state only options that differ from their default and have an effect: so a new key with a
default, an option of an unused method, or an explicit default value does not remake anything.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

# YAML 1.1 reads 1e-4 and 1.0e4 as text: it requires a point, and a sign of the exponent.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+", re.ASCII | re.IGNORECASE)
# Words that YAML 1.1 reads as true and false.
_WORDS_OF_YAML = {True: {"yes", "on"}, False: {"no", "off"}}

_ENDLESS = 20  # repetitions at the end of a wildcard from which Snakemake refuses it


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(  # blocks that a job does not use are not prepared
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True
    )

    def in_effect(self) -> Self:
        """Return the block with one spelling of what means the same."""
        return self

    def stated_besides(self) -> dict[str, Any]:
        """Return what results state besides the options of its fields."""
        return {}

    @field_validator("*", mode="before")
    @classmethod
    def _as_yaml_means(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool):
            words = set(_literals(field.annotation)) & _WORDS_OF_YAML[value]
            return next(iter(words), value)
        return _as_numbers(value) if _allows_float(field.annotation) else value


T = TypeVar("T")
_STATED = ("only", "typed")


def option(default: T, meaning: str, **more: Any) -> T:
    """Return the field of a key: limits as in pydantic, and attributes for `effective`."""
    stated = {name: more.pop(name) for name in _STATED if name in more}
    return Field(default, description=meaning, json_schema_extra=stated, **more)


def _allows_float(annotation: Any) -> bool:
    return annotation is float or any(map(_allows_float, get_args(annotation)))


def _literals(annotation: Any) -> list[Any]:
    """List the words that an annotation allows."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(parts)
    return [word for part in parts for word in _literals(part)]


def _as_numbers(value: Any) -> Any:
    """Return a value with texts such as 1e-4 replaced by numbers, also in lists."""
    if isinstance(value, list):
        return [_as_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _file_pattern(value: str) -> str:
    braces = re.sub(r"\{(scan|series)\}", "", value)
    if "{" in braces or "}" in braces:
        raise ValueError("may have only {scan} and {series} in braces")
    return value


def not_carried(text: str) -> list[str]:
    """Return the parts of a path that Snakemake cannot handle: , { } and each <word>."""
    return sorted({*re.findall(r"[,{}]|<[a-z][a-z0-9_]*>", text)})


def endless_tail(text: str) -> str:
    """Return the text repeated 20 times at the end (an endless loop for Snakemake), or ""."""
    tails = (text[-n:] for n in range(1, len(text) // _ENDLESS + 1))
    return next((tail for tail in tails if text.endswith(tail * _ENDLESS)), "")


def is_dataset(angles: str) -> bool:
    """Tell whether `input.angles` names a dataset of the scan: a path from / without an ending."""
    return bool(re.fullmatch(r"/[^.]*", angles)) and not os.path.isfile(angles)


Text = Annotated[str, Field(min_length=1)]
TwoNumbers = Annotated[list[float], Field(min_length=2, max_length=2)]
FilePattern = Annotated[str, AfterValidator(_file_pattern)]
"""Name of a file with {scan} and {series} as placeholders."""


def effective(block: Block) -> dict[str, Any]:
    """Return the options of a block that change the result; empty if all have their defaults.

    The block's schema gives for each key the values of other keys with which it has an effect
    (`only`; False: never), and whether 1.0 and 1 are different values (`typed`).
    """
    block = block.in_effect()
    result = {}
    for key, field in _with_effect(type(block)):
        value = getattr(block, key)
        is_block = isinstance(value, Block)
        # first what most are: a file may have thousands of scans, each with options of its own
        if not (is_block or value != field.default) or _in_the_way(block, field):
            continue
        if is_block:
            if inner := effective(value):
                result[key] = inner
        else:
            result[key] = (_typed if _extra(field).get("typed") else plain)(value)
    return result | block.stated_besides()


@cache
def _with_effect(kind: type[Block]) -> list[tuple[str, FieldInfo]]:
    """Return the keys of a block that may have an effect, with their fields."""
    fields = kind.model_fields.items()
    return [(key, field) for key, field in fields if _extra(field).get("only") is not False]


def why_no_effect(config: BaseModel, key: str) -> str:
    """Name the option that leaves a key of a configuration without effect; "" if none does."""
    *outer, name = key.split(".")
    block = reduce(getattr, outer, config)
    others = _in_the_way(block, type(block).model_fields[name])
    values = {key: getattr(block, key) for key in others}
    return "; ".join(
        f"{'.'.join([*outer, key])} is {'null' if value is None else value}"
        for key, value in values.items()
    )


def without_effect(config: BaseModel, *outer: str) -> Iterator[str]:
    """Describe options with another value than their default that others leave without effect."""
    block = reduce(getattr, outer, config)
    for name, field in type(block).model_fields.items():
        value, key = getattr(block, name), ".".join([*outer, name])
        if isinstance(value, Block):
            yield from without_effect(config, *outer, name)
        elif value != field.default and (why := why_no_effect(config, key)):
            yield f"{key}: {value} has no effect: {why}"


def _in_the_way(block: BaseModel, field: FieldInfo) -> list[str]:
    """Return the keys of the block whose values leave one of its fields without effect."""
    return [
        key
        for key, allowed in (_extra(field).get("only") or {}).items()
        for value in [getattr(block, key)]
        if not (value in allowed if isinstance(allowed, list | tuple) else value != allowed["not"])
    ]


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _typed(value: Any) -> Any:
    """Return a value as JSON in which 1.0 is a text, and so differs from 1."""
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return str(value) if isinstance(value, float) and value == 1 else plain(value)


def plain(value: Any) -> Any:
    """Return a value as JSON: 50.0 becomes 50, and a block in a list its values."""
    if isinstance(value, Block):
        return {key: plain(inner) for key, inner in value.model_dump().items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
