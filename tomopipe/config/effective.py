"""Effective options: those that differ from their baseline and change the result.

Results state these options, so that a new key with a default, an option of an unused method, or an
explicit default value does not remake anything.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tomopipe.config.base import Block


def effective(block: Block) -> dict[str, Any]:
    """Return the options of a block that change the result; empty if all have their baselines.

    The block's schema gives for each key the `baseline` (the default when the key first appeared;
    if absent, the present default), the values of other keys with which it has an effect (`only`;
    False: never), the values whose results a fix has changed (`remade`: value to number), and
    whether 1.0 and 1 are different values (`typed`).
    """
    block = block.in_effect()
    result = {}
    for key, field in type(block).model_fields.items():
        value = getattr(block, key)
        if not _has_effect(block, field):
            continue
        if isinstance(value, Block):
            if inner := effective(value):
                result[key] = inner
        elif value != _extra(field).get("baseline", field.default):
            result[key] = (_typed if _extra(field).get("typed") else plain)(value)
        if number := _extra(field).get("remade", {}).get(str(value)):
            result[f"{key} since"] = number
    return result


def when_absent(key: str) -> Any:
    """Return the value of a key, such as full_recon.filter, that `effective` omits."""
    from tomopipe.config.parse import Config

    model: Any = Config
    for name in key.split("."):
        if name not in getattr(model, "model_fields", {}):
            return None
        field = model.model_fields[name]
        model = field.annotation
    value = _extra(field).get("baseline", None if field.is_required() else field.default)
    return None if isinstance(value, Block) else plain(value)


def why_no_effect(config: BaseModel, key: str) -> str:
    """Say which other option leaves a key of a configuration without effect; "" if none does."""
    *outer, name = key.split(".")
    block = reduce(getattr, outer, config)
    others = _in_the_way(block, type(block).model_fields[name])
    return "; ".join(f"{'.'.join([*outer, key])} is {getattr(block, key)}" for key in others)


def _has_effect(block: Block, field: FieldInfo) -> bool:
    return _extra(field).get("only") is not False and not _in_the_way(block, field)


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
    """Return a value as JSON in which 1.0 is a text, and so is not 1."""
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
