"""Write config/config.yaml and config/README.md, all keys: python docs/config.py."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tomopipe.config.base import Block
from tomopipe.config.parse import Config, OverrideBlock

FOLDER = Path(__file__).parents[1] / "config"


def pages() -> dict[str, str]:
    """Return the text of each file of the folder."""
    return {"config.yaml": _defaults(), "README.md": _keys()}


def _defaults() -> str:
    """Return config/config.yaml: every key with its default, and its meaning as a comment."""
    lines = [
        "# Every key with its default. A campaign's own config.yaml holds only what differs;",
        "# `campaign: {scans: [raw/*.h5]}` is a complete one. What each key is for: README.md.",
    ]
    for block, field in Config.model_fields.items():
        if block == "overrides":
            lines += ["", f"# {field.description}", f"{block}: []"]
            continue
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        lines += ["", f"# {model.__doc__}", f"{block}:"]
        for key, option in model.model_fields.items():
            default = [r"raw/*.h5"] if option.is_required() else option.default
            if isinstance(default, Block):
                lines.append(f"  {key}:")
                inner = default.model_dump().items()
                lines += [f"    {name}: {_yaml_text(value)}" for name, value in inner]
            else:
                lines.append(f"  {key}: {_yaml_text(default)}")
    return "\n".join(lines) + "\n"


def _keys() -> str:
    """Return config/README.md: a table per block with each key's type, default and meaning."""
    lines = [
        "# The configuration",
        "",
        "One block per step; a campaign's `config.yaml` names only what differs from the defaults",
        "(`config.yaml` in this folder shows them all). Unknown keys and values out of range are",
        "errors, and nothing is started. Pixels are unbinned detector pixels. This page is made by",
        "`make docs`.",
    ]
    for block, field in Config.model_fields.items():
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        if block == "overrides":
            model = OverrideBlock
        lines += ["", f"## {block}", "", f"{model.__doc__}", ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += _key_lines(model)
    return "\n".join(lines) + "\n"


def _key_lines(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One line of the table per key; the keys of a block within a block follow it."""
    schema = model.model_json_schema()
    for key, option in model.model_fields.items():
        kind = _type_text(schema["properties"][key], schema.get("$defs", {}))
        meaning = (option.description or "").replace("|", "\\|")
        if isinstance(option.default, Block):
            yield f"| {key} | {kind} | | {meaning} |"
            yield from _key_lines(type(option.default), f"{key}.")
        else:
            default = "required" if option.is_required() else f"`{_yaml_text(option.default)}`"
            yield f"| {prefix}{key} | {kind} | {default} | {meaning} |"


def _yaml_text(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


_RANGES = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}


def _type_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_text(option, definitions) for option in schema["anyOf"])
    if "$ref" in schema:
        properties = definitions[schema["$ref"].rsplit("/", 1)[1]]["properties"]
        return "{" + ", ".join(properties) + "}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of ({_type_text(schema['items'], definitions)})"
    ranges = [f"{sign} {schema[key]:g}" for key, sign in _RANGES.items() if key in schema]
    return " ".join([{"string": "text"}.get(schema["type"], schema["type"]), *ranges])


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
