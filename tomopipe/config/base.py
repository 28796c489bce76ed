"""The base class of all blocks of the configuration."""

import os
import re
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# YAML 1.1 reads 1e-4 and 1.0e4 as text: it requires a point, and a sign of the exponent.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+", re.ASCII | re.IGNORECASE)
# YAML 1.1 reads these words as true and false.
_WORDS_OF_YAML = {True: {"yes", "on"}, False: {"no", "off"}}

_ENDLESS = 20  # repetitions at the end of a wildcard that Snakemake refuses


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def in_effect(self) -> Self:
        """Return the block with nulls replaced by fixed values, where they stand for one."""
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _as_yaml_means(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool):
            words = set(_literals(field.annotation)) & _WORDS_OF_YAML[value]
            return next(iter(words), value)
        return _as_numbers(value) if _allows_float(field.annotation) else value


T = TypeVar("T")
_STATED = ("only", "baseline", "remade", "typed")


def option(default: T, meaning: str, **more: Any) -> T:
    """Return the field of a key: limits as of pydantic, and what `effective` must know of it."""
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
        raise ValueError("must have nothing but {scan} or {series} in braces")
    return value


def not_carried(text: str) -> list[str]:
    """Return what Snakemake cannot carry in a path: , { } and each <word>, which it replaces."""
    return sorted({*re.findall(r"[,{}]|<[a-z][a-z0-9_]*>", text)})


def endless_tail(text: str) -> str:
    """Return what a text ends in 20 times, which Snakemake takes for an endless loop; or ""."""
    tails = (text[-n:] for n in range(1, len(text) // _ENDLESS + 1))
    return next((tail for tail in tails if text.endswith(tail * _ENDLESS)), "")


def is_dataset(angles: str) -> bool:
    """Tell whether `input.angles` names a dataset of the scan: a path from / without an ending."""
    return bool(re.fullmatch(r"/[^.]*", angles)) and not os.path.isfile(angles)


Text = Annotated[str, Field(min_length=1)]
TwoNumbers = Annotated[list[float], Field(min_length=2, max_length=2)]
FilePattern = Annotated[str, AfterValidator(_file_pattern)]
"""Name of a file in which {scan} and {series} stand for those of each scan."""
