"""Options that the review page writes into config.yaml: for one scan, its series, or all scans.

Only the lines of these options change; comments and order stay. What is written reads back as
meant, or nothing is written. The former lines are in `config.history.diff` beside the file.
"""

import copy
import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from tomopipe.campaign.campaign import Campaign
from tomopipe.config import Config, load_yaml, parse_config
from tomopipe.config.base import why_no_effect
from tomopipe.errors import TomopipeError, on_os_error
from tomopipe.paths import no_pipe
from tomopipe.storage.lock import under_way
from tomopipe.storage.processes import user_name
from tomopipe.storage.shared import settled_content, take_mode, update_file

OPTIONS = ("rows", "crop_x", "crop_y", "dtype", "value_range")
"""The keys of full_recon that are written."""
BLOCK = "full_recon"
_WORDS = ("all", "auto", "float32", "float16", "uint16", "uint8")
Scope = Literal["scan", "series", "all"]


@dataclass(frozen=True)
class Proposal:
    """An edit of the configuration that is shown before it is written."""

    path: Path
    text: str  # of the whole file afterwards
    diff: str  # "" if nothing changes
    seen: str  # SHA-256 of the file before
    remarks: list[str]  # options without an effect, and why


def propose(
    campaign: Campaign, path: Path, scan: str, scope: Scope, options: Mapping[str, Any]
) -> Proposal:
    """Return the edit that sets options of full_recon for a scan, its series, or all scans.

    Raises TomopipeError if an option is unknown or invalid, or has no effect on the scan because an
    override takes precedence, or if the file cannot be edited without changing more.
    """
    with on_os_error(f"{path}: cannot be read"):
        content = settled_content(path)
    return _proposal(campaign, path, content, scan, scope, options)


def write(
    campaign: Campaign, path: Path, scan: str, scope: Scope, options: Mapping[str, Any], *,
    seen: str,
) -> Proposal:  # fmt: skip
    """Make the edit, if the file is still the one that `propose` read: its SHA-256 is `seen`.

    Raises TomopipeError as `propose` does, and if the file has changed or a run is on.
    """
    made: list[Proposal] = []

    def change(before: bytes) -> bytes:
        if run := under_way(campaign.directory):
            raise TomopipeError(
                f"{path}: not changed while a run is on ({run}). Write it once the run has ended."
            )
        if _sha256(before) != seen:
            raise TomopipeError(f"{path}: somebody changed it meanwhile. Look at the change again.")
        made[:] = [_proposal(campaign, path, before, scan, scope, options)]
        return made[0].text.encode()

    with on_os_error(f"{path}: cannot be written"):
        update_file(path, change, lambda: _record(path, made[0].diff))
    return made[0]


def history_of_config(path: Path) -> Path:
    """Return the path of the history of a configuration file: beside it."""
    return path.with_name(f"{path.stem}.history.diff")


def _record(path: Path, diff: str) -> None:
    history = history_of_config(path)
    head = f"# {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {user_name()} page\n"
    is_new = not history.exists()
    with no_pipe(history).open("a", encoding="utf-8", newline="") as stream:
        stream.write(head + diff)
    if is_new:
        take_mode(path, history)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _proposal(
    campaign: Campaign, path: Path, content: bytes, scan: str, scope: Scope,
    options: Mapping[str, Any],
) -> Proposal:  # fmt: skip
    if scan not in campaign.scans:
        raise TomopipeError(f"{scan}: expected a scan of the campaign; a stack has none of these.")
    if unknown := [name for name in options if name not in OPTIONS]:
        raise TomopipeError(f"{', '.join(unknown)}: expected {', '.join(OPTIONS)}.")
    if not options:
        raise TomopipeError("No option to write.")
    series = campaign.scans[scan].series
    rule = {"scan": {"scans": [scan]}, "series": {"series": [series]}, "all": {}}[scope]
    try:
        before = content.decode("utf-8")
        text, data = before, load_yaml(before, str(path))
        place, expected = _place(parse_config(data, source=str(path)), data, rule, options, series)
        text = _edited(text, place, rule, options)
        is_meant = load_yaml(text, str(path)) == expected
    except (UnicodeDecodeError, yaml.YAMLError, _NoPlaceError):
        is_meant = False
    if not is_meant:
        line = f"overrides: [{_flow({**rule, BLOCK: options})}]" if rule else ""
        line = line or f"{BLOCK}: {_flow(options)}"
        raise TomopipeError(
            f"{path}: cannot be edited here without changing more. Write yourself: {line}"
        )
    config = parse_config(expected, source=str(path))
    _check_effect(config, path, scan, series, options)
    old, new = (each.splitlines(keepends=True) for each in (before, text))
    diff = "".join(
        line if line.endswith("\n") else f"{line}\n"
        for line in difflib.unified_diff(old, new, path.name, path.name)
    )
    mine = config.for_scan(scan, series)
    remarks = [
        f"{key} has no effect: {why}"
        for key in options
        if (why := why_no_effect(mine, f"{BLOCK}.{key}"))
    ]
    return Proposal(path, text, diff, _sha256(content), remarks)


def _check_effect(
    config: Config, path: Path, scan: str, series: str, options: Mapping[str, Any]
) -> None:
    now = config.for_scan(scan, series).full_recon.model_dump()
    for number, override in enumerate(config.overrides, start=1):
        if not override.applies(scan, series):
            continue
        for key in override.full_recon:
            if key in options and now[key] != options[key]:
                raise TomopipeError(
                    f"{path}: overrides {number} sets {BLOCK}.{key} for {scan}, which wins. Write "
                    "it for this scan alone, or change that override."
                )


class _NoPlaceError(Exception):
    """The file has no place for an option that can be found by its marks."""


# keys and numbers of items, down to a block
_Path = tuple[str | int, ...]


def _place(
    config: Config,
    data: Mapping[str, Any],
    rule: Mapping[str, Any],
    options: Mapping[str, Any],
    series: str,
) -> tuple[_Path | None, dict[str, Any]]:
    """Return the block that options go into, None for a new override, and the data afterwards."""
    expected: Any = copy.deepcopy(data)
    if not rule:
        expected[BLOCK] = {**(expected.get(BLOCK) or {}), **options}
        return (BLOCK,), expected
    scan = rule.get("scans", [""])[0]
    overrides = expected["overrides"] = list(expected.get("overrides") or [])
    applying = [
        number
        for number, each in enumerate(config.overrides)
        if each.applies(scan, rule.get("series", [series])[0])
    ]
    # the last override that counts, if it is for just these: else a new one, which comes last
    if applying and _rule_of(overrides[applying[-1]]) == dict(rule):
        last = overrides[applying[-1]]
        last[BLOCK] = {**(last.get(BLOCK) or {}), **options}
        return ("overrides", applying[-1], BLOCK), expected
    overrides.append({**rule, BLOCK: dict(options)})
    return None, expected


def _rule_of(override: Mapping[str, Any]) -> dict[str, Any]:
    return {key: override[key] for key in ("scans", "series") if override.get(key)}


def _edited(
    text: str, place: _Path | None, rule: Mapping[str, Any], options: Mapping[str, Any]
) -> str:
    if place is None:
        return _with_item(text, {**rule, BLOCK: options})
    for key, value in options.items():
        text = _with_key(text, place, key, _flow(value))
    return text


def _with_key(text: str, block: Sequence[str | int], key: str, value: str) -> str:
    """Set a key of a block; the last part of its path may not exist yet."""
    node = _at(text, block)
    if node is None:
        return _with_key(text, block[:-1], str(block[-1]), f"{{{key}: {value}}}")
    if isinstance(node, yaml.ScalarNode):  # empty, or null
        start, end = node.start_mark.index, node.end_mark.index
        gap = "" if text[start - 1 : start].isspace() else " "
        return f"{text[:start]}{gap}{{{key}: {value}}}{text[end:]}"
    if not isinstance(node, yaml.MappingNode):
        raise _NoPlaceError
    for name, old in node.value:
        if name.value == key:
            start, end = old.start_mark.index, _end(old)
            if isinstance(old, yaml.CollectionNode) and not old.flow_style:
                start = text.index(":", name.end_mark.index) + 1  # its items need not be indented
                if "#" in text[start:end]:
                    raise _NoPlaceError
            gap = "" if text[start - 1 : start].isspace() else " "
            return text[:start] + gap + value + text[end:]
    if node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{key}: {value}{', ' if node.value else ''}{text[at:]}"
    indent = " " * node.value[0][0].start_mark.column
    return _after_line(text, _end(node), f"{indent}{key}: {value}")


def _with_item(text: str, item: Mapping[str, Any]) -> str:
    """Add an override after the others."""
    node = _at(text, ("overrides",))
    rows = [f"{key}: {_flow(value)}" for key, value in item.items()]
    if node is None:
        root = yaml.compose(text, yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode) and root.flow_style:
            return _with_key(text, (), "overrides", f"[{_flow(item)}]")
        return _after_line(text, _end(root), "\n".join(["overrides:", *_as_item(rows, "  ")]))
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        indent = " " * node.start_mark.column
        return _after_line(text, _end(node), "\n".join(_as_item(rows, indent)))
    if isinstance(node, yaml.SequenceNode):
        at = _end(node.value[-1]) if node.value else node.start_mark.index + 1
        return f"{text[:at]}{', ' if node.value else ''}{_flow(item)}{text[at:]}"
    start, end = node.start_mark.index, node.end_mark.index  # empty, or null
    gap = "" if text[start - 1 : start].isspace() else " "
    return f"{text[:start]}{gap}[{_flow(item)}]{text[end:]}"


def _as_item(rows: Sequence[str], indent: str) -> list[str]:
    return [f"{indent}{'  ' if number else '- '}{row}" for number, row in enumerate(rows)]


def _at(text: str, path: Sequence[str | int]) -> yaml.Node | None:
    """Return the node at a path; None if there is none."""
    node: Any = yaml.compose(text, yaml.SafeLoader)
    for part in path:
        if isinstance(part, int):
            node = node.value[part]
        else:
            found = (value for name, value in node.value if name.value == part)
            node = next(found, None)
        if node is None:
            return None
    return node


def _end(node: Any) -> int:
    """Return where the text of a node ends: marks of blocks are at what follows them."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _after_line(text: str, at: int, lines: str) -> str:
    """Add lines after the one in which a position lies, with its line ends."""
    end = text.find("\n", at if text[at - 1 : at] != "\n" else at - 1)
    line_end = "\r\n" if "\r\n" in text else "\n"
    lines = lines.replace("\n", line_end)
    if end < 0:
        return f"{text}{line_end}{lines}{line_end}"
    return f"{text[: end + 1]}{lines}{line_end}{text[end + 1 :]}"


def _flow(value: Any) -> str:
    """Write a value as YAML on one line, as a person would."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        # YAML reads 1e-05 as text
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return value if value in _WORDS else json.dumps(value, ensure_ascii=False)
