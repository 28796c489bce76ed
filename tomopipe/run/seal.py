"""The seal of a finished campaign: the state of all that a decision reads, which found no job.

`tomopipe.reruns` decides whether results are stale. While nothing at all has changed since it found
no job, it need not decide again: listing the folders takes a fifth of the time. A change without
effect breaks the seal, too; then the decision says so.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import xxhash

import tomopipe
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CONVERTED, PICTURES, SEAL, VOLUMES
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.table import table_sha256
from tomopipe.config.site_corrections import CORRECTIONS_OF_SITES
from tomopipe.cor_methods import GROUP
from tomopipe.entry_points import installed
from tomopipe.scans.raw_identity import raw_state
from tomopipe.storage.atomic import write_json
from tomopipe.storage.checksums import files_below, quick_state
from tomopipe.storage.json_files import json_or, texts
from tomopipe.workflow_steps import STEPS

_DEPTH = 2  # of folders below the results
_VOLUMES = tuple({*VOLUMES.values(), *CONVERTED.values()})


def fits(campaign: Campaign) -> bool:
    """Tell whether everything is as it was when a decision last found no job."""
    seal = json_or(campaign.files.seal, {})
    return seal.get("facts") == _facts(campaign) and seal == state_of(
        campaign, texts(seal.get("raw"))
    )


def state_of(campaign: Campaign, raw: Iterable[str]) -> dict[str, Any]:
    """Return the state of all that a decision reads; `raw`: the raw files that it names.

    These are code, configuration and campaign table, names of scans, each file in the folders of
    results, raw files and sidecars, and raw files elsewhere, as those that scans link to.
    """
    total, listed = xxhash.xxh3_128(), set[str]()
    for folder in _folders(campaign):
        files, _ = _listed(folder)
        total.update(_bytes((folder, _rights(folder), files)))
        listed |= {f"{folder}/{name}" for name, _ in files}
    for part in _of_results(campaign):
        total.update(_bytes(part))
    for path in sorted({os.path.abspath(campaign.directory / path) for path in raw} - listed):
        total.update(_bytes((path, raw_state(path))))
    return {"facts": _facts(campaign), "files": total.hexdigest(), "raw": sorted(raw)}


def write(campaign: Campaign, state: Mapping[str, Any]) -> None:
    """Write the seal of a campaign with nothing to do; `state`: that of before the decision.

    There is none with corrections or methods of other packages, whose code may change.
    """
    groups = [*installed(CORRECTIONS_OF_SITES).values(), *installed(GROUP).values()]
    if all(entry.value.startswith("tomopipe.") for entries in groups for entry in entries):
        write_json(state, campaign.files.seal)


def _bytes(value: object) -> bytes:
    return repr(value).encode("utf-8", "surrogateescape")


def _facts(campaign: Campaign) -> str:
    """Return a digest of what decides besides files: code, options, the scans as found."""
    config, code = campaign.config, Path(tomopipe.__file__).parent
    sources = [
        (name, status.st_size, status.st_mtime_ns)
        for name, status in files_below(code)
        if name.endswith(".py")
    ]
    facts = (
        *(str(code), sorted(sources), [*STEPS.values()], str(campaign.directory)),
        *(config.model_dump_json(), config.model_dump(exclude_unset=True)),
        table_sha256(campaign.table_path),
        [(scan.name, scan.path, scan.refused, scan.view) for scan in _everything(campaign)],
    )
    return xxhash.xxh3_128_hexdigest(_bytes(facts))


def _everything(campaign: Campaign) -> tuple[CampaignScan, ...]:
    return *campaign.scans.values(), *campaign.refused


def _folders(campaign: Campaign) -> list[str]:
    """Return the folders of raw files and sidecars."""
    folders = {os.path.dirname(scan.abspath) for scan in _everything(campaign)}
    where = campaign.config.storage.sidecars
    return sorted(folders if where == "beside" else {*folders, str(campaign.directory / where)})


def _of_results(campaign: Campaign) -> Iterator[object]:
    """Yield the files in the folders of the results, but for what no decision reads."""
    files, results = campaign.files, str(campaign.results)
    left_out = {files.live.parent, files.option_sweeps(""), files.report.parent / PICTURES}
    of_volumes = {results, str(files.shifts("").parent)}
    waiting, others = [(results, 0)], {*map(str, left_out)}
    while waiting:
        folder, depth = waiting.pop()
        states, names = _listed(folder, without=SEAL if depth == 0 else "")
        yield folder, states, names
        for path in (f"{folder}/{name}" for name in names) if depth < _DEPTH else ():
            if folder in of_volumes and path.endswith(_VOLUMES):
                yield path, quick_state(path)
            elif path not in others:
                waiting.append((path, depth + 1))


def _rights(folder: str) -> tuple[bool, int]:
    """Return whether sidecars can be written into a folder, and its rights."""
    mode = os.stat(folder).st_mode if os.path.isdir(folder) else 0
    return os.access(folder, os.W_OK | os.X_OK), mode


def _listed(folder: str, without: str = "") -> tuple[list[tuple[str, object]], list[str]]:
    """Return name and state of each file in a folder, and the names of its subfolders."""
    states, names = list[tuple[str, object]](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                link = os.readlink(entry.path) if entry.is_symlink() else ""
                try:
                    status = entry.stat()
                except OSError as error:  # a link to nothing
                    states.append((entry.name, (error.errno, link)))
                    continue
                if S_ISDIR(status.st_mode):
                    names.append(entry.name)
                elif entry.name != without:
                    times_ns = status.st_mtime_ns, status.st_ctime_ns
                    states.append((entry.name, (status.st_size, *times_ns, status.st_ino, link)))
    except OSError as error:
        states.append(("", error.errno))
    return sorted(states), sorted(names)
