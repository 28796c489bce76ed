"""What the command line of this Snakemake, and its profile, say; for the Snakefile."""

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

_PROFILES = ("profile.yaml", "config.yaml")
# options with which Snakemake looks at a campaign, or changes only what it knows of one
_LOOKS = (
    *("--dry-run", "--dryrun", "--summary", "--detailed-summary", "--lint", "--unlock", "--touch"),
    *("--dag", "--rulegraph", "--filegraph", "--d3dag", "--report", "--archive", "--list-rules"),
    *("--list", "--list-target-rules", "--list-changes", "--list-untracked", "--list-conda-envs"),
    *("--cleanup-metadata", "--cleanup-shadow", "--delete-all-output", "--delete-temp-output"),
    *("--print-compilation", "--generate-unit-tests", "--containerize", "--export-cwl"),
    *("--conda-create-envs-only", "--conda-cleanup-envs", "--draft-notebook", "--edit-notebook"),
)
_LOOKS_SHORT = set("nSDl")  # -n, -S, -D and -l, also among others, as in -np


def is_job() -> bool:
    """Tell whether this Snakemake runs jobs that another one has given it."""
    return "--target-jobs" in sys.argv


def is_lint() -> bool:
    """Tell whether this call only checks the style of the rules."""
    return "--lint" in sys.argv


def executes(command: Sequence[str] | None = None) -> bool:
    """Tell whether this call, or that command, runs jobs, if any are missing."""
    return not any(map(_looks, (sys.argv if command is None else command)[1:]))


def forces() -> bool:
    """Tell whether the call names rules or files to be made although they are right."""
    long = {"--force", "--forceall", "--forcerun", "--until", "--omit-from"}
    names = {argument.partition("=")[0] for argument in sys.argv[1:]}
    short = (re.fullmatch(r"-([A-Za-z]+)", name) for name in names)
    return bool(long & names) or any(set("fFRU") & set(entry[1]) for entry in short if entry)


def _looks(argument: str) -> bool:
    name = argument.partition("=")[0]
    short = re.fullmatch(r"-([A-Za-z]+)", argument)
    return name in _LOOKS or bool(short and _LOOKS_SHORT.intersection(short[1]))


def is_remote() -> bool:
    """Tell whether jobs are submitted to a cluster."""
    return option("--executor", "-e") not in ("", "local", "dryrun", "touch")


def option(*names: str) -> str:
    """Return the value of an option, by its names, the long one first; "" if it is not given."""
    arguments = sys.argv[1:]
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else next(iter(arguments[number + 1 :]), "")
    return str(_profile().get(names[0].removeprefix("--"), ""))


@cache
def _profile() -> dict[str, object]:
    """Return the settings of the profiles of this call."""
    settings: dict[str, object] = {}
    for name in ("--workflow-profile", "--profile"):
        argument = next((a for a in sys.argv[1:] if a.partition("=")[0] == name), "")
        if not argument:
            continue
        following = sys.argv[sys.argv.index(argument) + 1 :]
        text = argument.partition("=")[2] or next(iter(following), "")
        settings |= _read_profile(text)
    return settings or _read_profile(os.environ.get("SNAKEMAKE_PROFILE", ""))


def _read_profile(name: str) -> dict[str, object]:
    folders = [
        Path(name),
        Path.home() / ".config/snakemake" / name,
        Path("/etc/xdg/snakemake", name),
    ]
    for path in (folder / file for folder in folders if name for file in _PROFILES):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            continue
        return content if isinstance(content, dict) else {}
    return {}
