"""What `tomopipe init` writes: a campaign folder, and a SLURM profile for a site."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tomopipe.campaign.files import CONFIG, SNAKEFILE, TABLE, names_no_target
from tomopipe.campaign.raw_files import matches
from tomopipe.config.parse import read_config
from tomopipe.errors import TomopipeError, saying
from tomopipe.groups import grouped
from tomopipe.paths import workflow_folder
from tomopipe.scans.formats import RAW_ENDINGS
from tomopipe.storage.atomic import write_text

_PROFILE = "profiles/default/profile.yaml"  # which Snakemake loads with the Snakefile beside it
_SNAKEFILE = """\
# `snakemake --cores all`, typed in this folder, runs the tomopipe of the same environment.
from tomopipe.paths import workflow_folder


include: str(workflow_folder() / "workflow" / "rules" / "campaign.smk")


rule all:
    default_target: True
    input:
        EVERYTHING,
    localrule: True
"""


def campaign_and_scans(words: Sequence[str]) -> tuple[Path, list[str]]:
    """Separate the campaign folder, the first word, from the scans.

    Without words it is this folder. A TomopipeError says that the first word means scans.
    """
    campaign, *scans = words or ["."]
    path = os.path.expanduser(campaign)
    names = os.listdir(path) if os.path.isdir(path) and CONFIG not in os.listdir(path) else [path]
    is_pattern = glob.has_magic(path) and not os.path.isdir(path)
    if words and (is_pattern or any(name.lower().endswith(RAW_ENDINGS) for name in names)):
        raise TomopipeError(
            f"{campaign}: this means scans. Name the campaign folder before it, or with -C: "
            f"tomopipe init CAMPAIGN {campaign}"
        )
    return Path(path), scans


def scan_entries(words: Iterable[str], directory: Path) -> list[str]:
    """Return entries of `campaign.scans` for files, folders and patterns.

    They are relative to the campaign folder if they exist there, else to the working directory. All
    files of a folder become a pattern again. A TomopipeError names a word that cannot mean scans.
    """
    entries = []
    for word in words:
        path = _from_campaign(os.path.expanduser(word), directory)
        is_folder = (directory / path).is_dir()
        may_come = glob.has_magic(path) or path.lower().endswith(RAW_ENDINGS)
        if (directory / path / CONFIG).exists() or not (may_come or matches(path, directory)):
            raise TomopipeError(
                f"{word}: no scans are there (the campaign folder would be {directory}). Correct "
                "the name, or write a pattern such as 'raw/*.h5' for scans to come."
            )
        path = path.rstrip("/") if is_folder else path
        folder, name = os.path.split(path)
        ending = "/" if is_folder else os.path.splitext(name)[1]
        entries.append(((folder, ending), f"{path}/" if is_folder else path))
    return [
        entry
        for (folder, ending), group in grouped(entries).items()
        for entry in _as_pattern(group, os.path.join(glob.escape(folder), f"*{ending}"), directory)
    ]


def _from_campaign(path: str, directory: Path) -> str:
    """Return a path as it stands in the configuration."""
    if os.path.isabs(path) or matches(path, directory) or not matches(path, Path()):
        return path
    folder, end = os.path.abspath(directory), "/" * path.endswith("/")
    absolute = os.path.abspath(path)
    inside = absolute.startswith(f"{folder}/")
    return (os.path.relpath(absolute, folder) if inside else absolute) + end


def _as_pattern(group: list[str], pattern: str, directory: Path) -> list[str]:
    """Return the pattern where it matches these files only, or all of them."""
    is_whole = len(group) > 1 and matches(pattern, directory) == sorted(group)
    return [pattern] if is_whole else list(dict.fromkeys(group))


def write_campaign(
    directory: Path,
    scans: Sequence[str],
    options: Mapping[str, Any],
    *,
    notes: Iterable[str] = (),
    dry_run: bool,
) -> list[Path]:
    """Write config.yaml, scans.tsv, Snakefile and its profile unless they exist; return the new.

    A Snakefile that an earlier version wrote is replaced. Snakemake loads the profile by itself.

    `scans` are the entries of `campaign.scans`, `options` further blocks of the configuration,
    `notes` comments there.
    """
    if not dry_run:
        with saying(f"{directory}: the campaign folder cannot be made", " Name another."):
            directory.mkdir(parents=True, exist_ok=True)
    files = {
        CONFIG: "# Only what differs from the defaults; all keys: config/README.md of "
        "tomopipe\n"
        + "".join(f"# {note}\n" for note in notes)
        + yaml.safe_dump(
            {"campaign": {"scans": list(scans)}, **options},
            allow_unicode=True,
            sort_keys=False,
        ),
        TABLE: "scan\tselect\tcor_px\tnote\n",
        SNAKEFILE: _SNAKEFILE,
        _PROFILE: (workflow_folder() / _PROFILE).read_text(encoding="utf-8"),
    }
    files = {
        name: text
        for name, text in files.items()
        if not (directory / name).exists() or names_no_target(directory / name)
    }
    for name, text in files.items() if not dry_run else ():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(text, directory / name)
    return [directory / name for name in files]


def write_slurm_profile(
    directory: Path, site: Mapping[str, str | None], *, force: bool, dry_run: bool
) -> list[tuple[Path, bool]]:
    """Write the SLURM profile of a campaign with the names of a site filled in.

    `site` are `partition`, `account` and `gpu_partition`; empty: SLURM's defaults. Volumes run in
    the last, one GPU each, and so do try sweeps if the configuration has `try_recon.device: cuda`.
    `force`: replace profiles that exist.

    Returns each path, and whether the profile was written there: in the campaign, and in the user's
    Snakemake configuration, where `--profile slurm` is found from any folder.
    """
    source = workflow_folder() / "profiles" / "slurm" / "profile.yaml"
    text = _of_site(source.read_text(encoding="utf-8"), site)
    if site["gpu_partition"] and not dry_run:
        config = read_config(directory / CONFIG)
        steps = ["full_recon", *(["try_recon"] if config.try_recon.device == "cuda" else [])]
        target = {"slurm_partition": site["gpu_partition"], "gpu": 1}
        text += yaml.safe_dump({"set-resources": {step: dict(target) for step in steps}})
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "snakemake"
    places = []
    for folder in (directory / "slurm", user / "slurm"):
        path = folder / "profile.yaml"
        write = force or not (path.exists() or (folder / "config.yaml").exists())
        if write and not dry_run:
            write_text(text, path)
        places.append((path, write))
    return places


def _of_site(template: str, site: Mapping[str, str | None]) -> str:
    """Return the profile with partition and account of a site."""
    lines = [
        f"  slurm_{key}: {yaml.safe_dump(site[key]).splitlines()[0]}"
        for key in ("partition", "account")
        if site[key]
    ]
    return template.replace("default-resources:\n", "\n".join(["default-resources:", *lines, ""]))
