"""Options as columns of a table: `full_recon.filter` in the header, one value in each cell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tomopipe.config.model import OVERRIDABLE, Config, OverrideBlock, merged
from tomopipe.config.parse import nearest, problems_of
from tomopipe.config.yaml_text import load_yaml
from tomopipe.errors import TomopipeError

_EXPECTED = (
    f"expected a key of {', '.join(OVERRIDABLE[:-1])} or {OVERRIDABLE[-1]}, such as "
    "full_recon.filter"
)
_KEY = re.compile(r"\w+(\.\w+)+")


def is_option(column: str) -> bool:
    """Tell whether a column of a table is an option: words joined by dots."""
    return _KEY.fullmatch(column) is not None


def fault_of_key(key: str) -> str:
    """Say why a key, such as preprocess.stripes.method, cannot be set for single scans."""
    if key == "full_recon.output":
        return "is the same for all scans of a campaign"
    keys = list(option_keys())
    if key in keys:
        return ""
    block = key.rpartition(".")[0]
    inside = [known.rpartition(".")[2] for known in keys if known.rpartition(".")[0] == block]
    allowed = f"allowed here: {', '.join(inside)}" if inside else _EXPECTED
    ending = next((known for known in keys if known.endswith(f".{key}")), "")
    hint = f"did you mean {ending}? " if ending else nearest(key, keys)
    return f"unknown key; {hint}{allowed}"


def option_keys() -> Iterator[str]:
    """Return all keys that may be set for single scans, including nested blocks."""
    for block in OVERRIDABLE:
        for key in _keys_of(block, Config.model_fields[block].annotation):
            if key != "full_recon.output":
                yield key


def _keys_of(prefix: str, model: Any) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}.{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys_of(f"{prefix}.{name}", field.annotation)


def nested(key: str, value: Any) -> Any:
    """Return {"a": {"b": value}} for the key a.b."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def parse_cells(cells: Mapping[str, str], config: Config) -> tuple[OverrideBlock, list[str]]:
    """Make the options of one scan from the cells of its row, and describe their problems.

    `cells` are texts by key, which must pass `fault_of_key`; empty ones are ignored. `config` is
    the scan's configuration without them, overrides applied.
    """
    options: dict[str, Any] = {"scans": ["*"]}
    problems = []
    for key, text in cells.items():
        try:
            if text:
                options = merged(options, nested(key, load_yaml(text, "the cell")))
        except TomopipeError as error:
            problems.append(f"{key}: got {text!r}; {error}")
    override = OverrideBlock(**options)
    return override, problems + problems_of(config, override)
