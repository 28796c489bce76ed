"""Read and check a configuration; report problems key by key."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tomopipe.config.model import OVERRIDABLE, Config, OverrideBlock, merged
from tomopipe.config.yaml_text import load_yaml
from tomopipe.errors import TomopipeError

KeyPath = tuple[int | str, ...]  # of a value in the configuration: keys, and numbers of items


def parse_config(data: Mapping[str, Any], *, source: str = "config") -> Config:
    """Check a configuration, blocks as read from YAML, and fill in the defaults.

    A TomopipeError names `source`, and has one line per problem: key, value, what is allowed,
    nearest match.
    """
    try:
        config = Config.model_validate(_blocks(data, source))
        problems = [
            f"overrides {number}: {line}"
            for number, override in enumerate(config.overrides, start=1)
            for line in problems_of(config, override)
        ]
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error)))
    if problems:
        raise TomopipeError("\n".join(f"{source}: {line}" for line in problems))
    return config


def parsed_texts(data: Mapping[str, Any], *, source: str = "config") -> dict[str, Any]:
    """Return a configuration with texts replaced by the values they stand for.

    `snakemake --config 'full_recon={binning: 2}'` passes the text 2; whole blocks may be texts in
    YAML, too. Valid texts of a key (the name of a file, hann) are kept. A TomopipeError, which
    names `source`, if the text of a block is not one.
    """
    blocks = _blocks(data, source)
    overrides = blocks.pop("overrides", None)
    blocks = _values_for_texts(blocks)
    if isinstance(overrides, list):
        overrides = [
            {**item, **_values_for_texts({k: v for k, v in item.items() if k in OVERRIDABLE})}
            if isinstance(item, Mapping)
            else item
            for item in overrides
        ]
    return blocks if overrides is None else {**blocks, "overrides": overrides}


def _blocks(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the blocks, with texts in YAML parsed, empty ones kept.

    Snakemake passes a text if it does not recognise a value of --config as YAML.
    """
    if not isinstance(data, Mapping):
        raise TomopipeError(
            f"{source}: expected blocks of keys such as campaign:, got {_shown(data)}"
        )
    blocks: dict[str, Any] = {}
    for key, value in data.items():
        kind = list if key == "overrides" else dict
        found = value
        if isinstance(value, str) and key in Config.model_fields:
            named = f"{source}: {key}"
            found = load_yaml(value, named)
            if not isinstance(found, kind | None):
                example = "[{scans: [a_1], input: {every: 2}}]" if kind is list else "{key: value}"
                raise TomopipeError(f"{named}: expected {example}, got {_shown(value)}")
        blocks[key] = kind() if found is None else found
    return blocks


def _values_for_texts(blocks: dict[str, Any]) -> dict[str, Any]:
    """Replace texts by their values for keys that do not accept texts."""
    blocks = _without_null(blocks)
    try:
        Config.model_validate({"campaign": {"scans": ["*"]}, **blocks})
    except ValidationError as error:
        key_paths = {_known(problem["loc"]) for problem in error.errors()}
    else:
        return blocks
    for key_path in sorted(key_paths, key=str):
        holder: Any = blocks
        for part in key_path[:-1]:
            try:
                holder = holder[part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(holder, dict) and key_path and key_path[-1] in holder:
                holder[key_path[-1]] = _value_for_text(holder[key_path[-1]])
    return blocks


def _without_null(value: Any) -> Any:
    """Return a copy in which the text null is None; some keys would read it as a name."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if isinstance(value, Mapping):
        return {k: None if v == "null" else _without_null(v) for k, v in value.items()}
    return value


def _value_for_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_value_for_text(item) for item in value]
    if not isinstance(value, str):
        return value
    try:
        return load_yaml(value, "value")
    except TomopipeError:
        return value


def problems_of(config: Config, override: OverrideBlock) -> list[str]:
    """Describe the problems of overrides of a configuration, a line for each."""
    blocks = {
        block: merged(getattr(config, block).model_dump(), getattr(override, block))
        for block in OVERRIDABLE
    }
    try:
        Config.model_validate({"campaign": config.campaign, **blocks})
    except ValidationError as error:
        return list(dict.fromkeys(_problems(error)))
    return []


def read_config(path: Path) -> Config:
    """Read and check a YAML configuration file."""
    return parse_config(read_document(path), source=str(path))


def read_document(path: Path) -> Any:
    """Read a YAML configuration file without checking keys; {} if it is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise TomopipeError(
                f"{folder}: no such folder; expected that of a campaign, not a scan."
            ) from None
        raise TomopipeError(
            f"no {path.name} in {folder} or above, so this is no campaign. Start one with "
            "`tomopipe init`, or name its folder (another configuration file: -c)."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TomopipeError(f"{path}: cannot be read as YAML: {error}") from None
    data = load_yaml(text, str(path))
    return {} if data is None else data


def with_file(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the blocks of a file, updated key by key by `config`, from the command line."""
    blocks = _blocks(read_document(path), str(path))
    for block, given in config.items():
        old = blocks.get(block)
        both = isinstance(old, Mapping) and isinstance(given, Mapping)
        blocks[block] = {**(old or {}), **given} if both else given
    return blocks


def _problems(error: ValidationError) -> Iterator[str]:
    """One line per key: the branches of a union that all refused a value are one problem."""
    refused: dict[str, tuple[KeyPath, Any, list[str]]] = {}
    for problem in error.errors():
        key_path = _known(problem["loc"])
        key = _label(key_path)
        if problem["type"] == "extra_forbidden":
            names = list(_fields_at(key_path[:-1]))
            hint = nearest(str(problem["loc"][-1]), names)
            yield f"{key}: unknown key; {hint}allowed here: {', '.join(names)}"
        elif problem["type"] == "missing":
            yield f"{key}: is required"
        elif problem["type"] == "invalid_key":
            yield (
                f"{key}: {_shown(problem['input'])} is no key; if it is part of a number, write a "
                "decimal point: 85.5, not 85,5"
            )
        elif not key_path:  # problems of several blocks together
            yield problem["msg"].removeprefix("Value error, ")
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            if problem["type"] == "list_type":
                message = "should be a list: [one] or [one, another]"
            refused.setdefault(key, (key_path, problem["input"], []))[2].append(message)
    for key, (key_path, value, messages) in refused.items():
        message = ", or ".join(dict.fromkeys(messages))
        hint = nearest(str(value), re.findall(r"'([^']+)'", message))
        # of keys that do not fit
        got = "" if isinstance(value, Mapping) else f"got {_shown(value)}; "
        yield f"{key}: {got}{message}; {hint}{_meaning(key_path)}".rstrip("; ")


def _shown(value: Any) -> str:
    """Return a value as shown in an error."""
    return f"{value!r:.200}"


def nearest(word: str, choices: list[str]) -> str:
    """Suggest the choice most similar to a word, as part of a sentence, or nothing."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _known(key_path: KeyPath) -> KeyPath:
    """Return the part of a path that has known keys and items."""
    return tuple(part for part, _ in _steps(key_path))


def _label(key_path: KeyPath) -> str:
    """Return a path for people; items of lists count from 1."""
    return "".join(f" {p + 1}" if isinstance(p, int) else f".{p}" for p in key_path).lstrip(".")


def _fields_at(key_path: KeyPath) -> dict[str, Any]:
    """Return the fields of the block at a path."""
    model: type[BaseModel] = Config
    for _, inner in _steps(key_path):
        model = inner or model
    return model.model_fields


def _steps(key_path: KeyPath) -> Iterator[tuple[int | str, type[BaseModel] | None]]:
    """Follow a path: yield each part and the block behind it, None at its end."""
    model: type[BaseModel] = Config
    item: type[BaseModel] | None = None  # item of the list named before
    for part in key_path:
        if isinstance(part, int):
            if item is None:
                return
            model, item = item, None
            yield part, model
            continue
        field = model.model_fields.get(part)
        inner, item = _block(field.annotation if field else None)
        yield part, inner or (model if item else None)
        if inner is None and item is None:
            return
        model = inner or model


def _block(annotation: Any) -> tuple[type[BaseModel] | None, type[BaseModel] | None]:
    """Return the block of an annotation, or of the items of its list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    items = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return None, items[0] if get_origin(annotation) is list and items else None


def _meaning(key_path: KeyPath) -> str:
    field = _fields_at(key_path[:-1]).get(str(key_path[-1]))
    return f"it means: {field.description}" if field is not None and field.description else ""
