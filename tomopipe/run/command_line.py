"""What this call of Snakemake is asked for: options of its command line and of its profiles."""

import os
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml

from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.resources.gpus import gpu_count

_LATENCY_S = 5  # Snakemake's default
RESOURCES = ("--resources", "--res")
PROFILES = ("profile.yaml", "config.yaml")
# short options of Snakemake, of which the last may have a value
_SHORT = re.compile("-([A-Za-z]*?)(?:([CORPTUcdejqsw])=?(.*))?")
# options with which Snakemake runs no jobs
_NO_JOBS = (
    *("--dry-run", "--dryrun", "--summary", "--detailed-summary", "--lint", "--unlock", "--touch"),
    *("--dag", "--rulegraph", "--filegraph", "--d3dag", "--report", "--archive", "--list-rules"),
    *("--list", "--list-target-rules", "--list-changes", "--list-untracked", "--list-conda-envs"),
    *("--list-input-changes", "--list-params-changes", "--lt", "--lc", "--li", "--lp", "--lu"),
    *("-n", "-S", "-D", "-l", "-t", "--cm"),
    *("--cleanup-metadata", "--cleanup-shadow", "--delete-all-output", "--delete-temp-output"),
    *("--print-compilation", "--generate-unit-tests", "--containerize"),
    *("--conda-create-envs-only", "--conda-cleanup-envs"),
)


def is_job() -> bool:
    """Tell whether this Snakemake runs jobs of another one, as on a node."""
    return "--target-jobs" in sys.argv


def is_lint() -> bool:
    """Tell whether this call only checks the style of the rules."""
    return "--lint" in sys.argv


def is_dry() -> bool:
    """Tell whether this call only shows what a run would do."""
    return has_option(("--dry-run", "--dryrun", "-n"))


def executes(command: Sequence[str] | None = None) -> bool:
    """Tell whether this call, or `command`, runs jobs, if any are pending."""
    after_run = {"--report"} if has_option(["--report-after-run"], command) else set()
    return not has_option(set(_NO_JOBS) - after_run, command)


def changes_receipts() -> bool:
    """Tell whether this call makes no result, but removes receipts or sets their times."""
    return has_option(("--delete-all-output", "--touch", "-t"))


def forces() -> bool:
    """Tell whether this call forces rules or files."""
    return has_option(("--force", "--forceall", "--forcerun", "-f", "-F", "-R"))


def cuts() -> bool:
    """Tell whether this call ends at a rule, omits one, or makes one batch of the jobs."""
    return has_option(("--until", "-U", "--omit-from", "-O", "--batch"))


def is_plain() -> bool:
    """Tell whether this call neither forces jobs nor leaves some out."""
    return not (forces() or cuts())


def has_option(names: Collection[str], command: Sequence[str] | None = None) -> bool:
    """Tell whether this call, or that command, has one of these options."""
    return not _options(command).keys().isdisjoint(names)


def _options(command: Sequence[str] | None = None) -> dict[str, str]:
    """Return the options of this call, or of a command, with values: -nc4 is -n, and -c with 4."""
    options: dict[str, str] = {}
    words = (sys.argv if command is None else command)[1:]
    for number, word in enumerate(words, start=1):
        following = "".join(words[number : number + 1])
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            options[name] = value if equals else following
        elif short := _SHORT.fullmatch(word):
            flags, name, value = short.groups()
            options |= dict.fromkeys((f"-{flag}" for flag in flags), "")
            options |= {f"-{name}": value or following} if name else {}
    return options


def is_remote() -> bool:
    """Tell whether jobs are submitted to a cluster."""
    return option("--executor", "-e") not in ("", "local", "dryrun", "touch")


def cores() -> int:
    """Return the cores of this call, on this machine: Snakemake's --cores."""
    text = option("--cores", "-c")
    return int(text) if text.isdecimal() else len(os.sched_getaffinity(0))


def gpus() -> int:
    """Return how many jobs of this call may use a GPU at a time: Snakemake's resource gpu."""
    given, is_given = [], False
    for word in sys.argv[1:]:
        is_given = word.partition("=")[0] in RESOURCES if word.startswith("-") else is_given
        given += [word] if is_given else []
    number = re.search(r"\bgpu\W+(\d+)", " ".join(given) or str(_profile().get("resources", "")))
    return max(1, int(number[1]) if number else gpu_count())


def option(*names: str) -> str:
    """Return the value of an option, by its names, the long one first; "" if it is not given."""
    given = _argument(*names)
    return str(_profile().get(names[0].removeprefix("--"), "")) if given is None else given


def latency_s() -> float:
    """Return how long a file may take to appear on this host: Snakemake's --latency-wait."""
    return float(option("--latency-wait", "--output-wait", "-w") or _LATENCY_S)


def _argument(*names: str) -> str | None:
    """Return the value of an option on the command line; None if it is not there."""
    options = _options()
    return next((options[name] for name in names if name in options), None)


@cache
def _profile() -> dict[str, object]:
    """Return the settings of the profiles of this call."""
    names = (_argument("--workflow-profile"), _argument("--profile"))
    settings: dict[str, object] = {}
    for name in filter(None, names):
        settings |= read_profile(name)
    return settings or read_profile(os.environ.get("SNAKEMAKE_PROFILE", ""))


def read_profile(name: str) -> dict[str, object]:
    """Return the settings of a profile, by its name or path; TomopipeError if it is no text."""
    folders = (
        Path(name),
        Path.home() / ".config/snakemake" / name,
        Path("/etc/xdg/snakemake", name),
    )
    for path in (folder / file for folder in folders if name for file in PROFILES):
        with suppress(OSError, yaml.YAMLError):
            try:
                content = yaml.safe_load(no_pipe(path).read_text(encoding="utf-8"))
            except UnicodeDecodeError:
                raise TomopipeError(f"{path}: expected UTF-8 text. Save it as UTF-8.") from None
            return content if isinstance(content, dict) else {}
    return {}
