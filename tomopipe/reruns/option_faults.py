"""Options that do not fit a scan, known from the inventory before any job runs."""

import glob
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import SNAKEMAKE, STAR
from tomopipe.campaign.raw_files import path_problems
from tomopipe.campaign.results import InventoryRows
from tomopipe.campaign.step_files import results_of, volume_of
from tomopipe.config.blocks import NUMBERS
from tomopipe.config.spans import first_and_last, middle_of_sweep, row_numbers
from tomopipe.cor.cor_value import is_valid, off_detector
from tomopipe.errors import ScanError, TomopipeError, scans_named, some_of
from tomopipe.storage.atomic import closed, giving_rights, is_protected
from tomopipe.volume_formats import FORMATS

_N_NAMED = 4  # files named in an error
_STEPS = ("try_recon", "full_recon", "export_stack")


def _fault(campaign: Campaign, step: str, row: Mapping[str, str]) -> str:
    """Say why a step would fail on the scan of this inventory row because of its options, or ""."""
    for_scan = campaign.for_scan(row["scan"])
    n_rows, n_cols = int(row["n_rows"]), int(row["n_cols"])
    config = for_scan.config
    try:
        columns = first_and_last("input.columns", config.input.columns, n_cols, "columns of")
        if config.preprocess.phase.method != "none":
            from tomopipe.prep.phase import phase_strength  # NumPy, which few campaigns need here

            phase_strength(config.preprocess, _numbers(row))
        is_half = config.preprocess.half_acquisition == "yes" and step != "export_stack"
        if is_half and row["keep"] == "true":  # refused for fewer than 360 degrees
            from tomopipe.prep.half_acquisition import is_half_acquisition  # as above

            is_full = row["full_turn"] == "true"
            is_half_acquisition("yes", full_rotation=is_full, cor_px=0, n_cols=1, first_col=0)
        if step == "try_recon":
            row_numbers(config.try_recon.row, n_rows)
            middle_of_sweep(config.try_recon, *columns)
        elif step == "full_recon":
            _check_volume(campaign, row, columns)
        else:
            first_and_last("export_star.rows", config.export_star.rows, n_rows)
    except ScanError as error:
        return str(error)
    return ""


def _numbers(row: Mapping[str, str]) -> dict[str, float | None]:
    return {name: float(row.get(name) or 0) or None for name in NUMBERS}


def _check_volume(campaign: Campaign, row: Mapping[str, str], columns: tuple[int, int]) -> None:
    for_scan = campaign.for_scan(row["scan"])
    full, n_cols = for_scan.config.full_recon, columns[1] + 1 - columns[0]
    first_and_last("full_recon.rows", full.rows, int(row["n_rows"]))
    if n_cols < full.binning:
        raise ScanError(f"full_recon.binning: {full.binning} is more than the {n_cols} columns")
    if full.crop_x != "all" or full.crop_y != "all":
        from tomopipe.resources.disk import slice_cols

        n_voxels = slice_cols(campaign, row, None, is_most=True)
        for key, crop in (("crop_x", full.crop_x), ("crop_y", full.crop_y)):
            first_and_last(f"full_recon.{key}", crop, n_voxels, "within the slices of")
    if full.unit == "per_cm":
        from tomopipe.geometry import pixels_per_cm

        size_um = for_scan.config.export_star.pixel_size_um
        pixels_per_cm(size_um or _numbers(row)["pixel_size_um"])


def _unfit(campaign: Campaign, rows: InventoryRows) -> dict[str, dict[str, list[str]]]:
    """Return the scans whose options do not fit, by step and reason."""
    steps = _STEPS if campaign.makes_star else _STEPS[:-1]
    result: dict[str, dict[str, list[str]]] = {step: {} for step in steps}
    for scan in campaign.selected_scans(rows):
        for step in steps:
            if reason := _fault(campaign, step, rows[scan]):
                result[step].setdefault(reason, []).append(scan)
    return result


def option_faults(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Name the scans whose options do not fit, a line for each reason."""
    lines = {
        reason: f"{scans_named(scans)}: {reason}"
        for reasons in _unfit(campaign, rows).values()
        for reason, scans in reasons.items()
    }
    return [*lines.values(), *unused_cors(campaign, rows)]


def unused_cors(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Name the CORs by hand, and the default, that are off the detector: they are not used."""
    n_cols = {scan: int(rows[scan]["n_cols"]) for scan in campaign.selected_scans(rows)}
    by_hand = {scan: campaign.scans[scan].manual for scan in n_cols}
    line = {row.scan: row.line for row in campaign.table_rows}
    lines = [
        f"{campaign.table_name}: line {line[scan]}: cor_px of {scan}: {fault} and is not used"
        for scan, cor in by_hand.items()
        if cor.px is not None and (fault := cor.fault(n_cols[scan]))
    ]
    default_px = campaign.config.resolve_cor.default_px
    off = [scan for scan, n in n_cols.items() if not is_valid(default_px, n)]
    if default_px is not None and off:
        lines.append(
            f"resolve_cor.default_px: {off_detector(default_px, n_cols[off[0]])} and is not used "
            f"for {scans_named(off)}"
        )
    return lines


def refuse_option_faults(campaign: Campaign, rows: InventoryRows) -> None:
    """Raise if an option fits none of the scans: all their results would be made again in vain.

    If it fits some, the jobs of the others report it.
    """
    n_scans = len(campaign.selected_scans(rows))
    for reasons in _unfit(campaign, rows).values():
        if n_scans and sum(map(len, reasons.values())) == n_scans:
            reason, scans = max(reasons.items(), key=lambda item: len(item[1]))
            raise TomopipeError(
                f"{scans_named(scans)}: {reason.removesuffix('.')}. This applies to all scans, so "
                "nothing is run."
            )


def refuse_no_file(campaign: Campaign) -> None:
    """Raise if campaign.scans matches nothing."""
    if not (campaign.scans or campaign.refused):
        problems = "; ".join(path_problems(campaign.config, campaign.directory))
        raise TomopipeError(
            f"{problems}. Mount the folder or correct campaign.scans; `tomopipe run --watch` "
            "processes scans as they arrive."
        )


def missing_files(campaign: Campaign) -> list[str]:
    """Name missing files of flats, darks, angles or networks, wrong networks, missing packages."""
    return [line for line, _ in _file_faults(campaign)]


def refuse_missing_files(campaign: Campaign) -> None:
    """Raise if a network, a package, or a file that all scans need is missing or damaged."""
    for line, concerns_all in _file_faults(campaign):
        if concerns_all:
            raise TomopipeError(line)


def _file_faults(campaign: Campaign) -> Iterator[tuple[str, bool]]:
    """Yield faults of files and packages, and whether each concerns all scans."""
    networks, files_of = campaign.config.predict_cor.own_networks, _named_files(campaign)
    for path, scans in _missing(campaign, files_of).items():
        yield _line(campaign, path, scans), path in networks or len(scans) == len(files_of)
    config, model = campaign.config, campaign.config.predict_cor.model
    if model in networks and (campaign.directory / model).exists():
        from tomopipe.cor.ai.network import load_model  # SciPy, which few campaigns need here

        try:
            load_model(campaign.directory / model)
        except TomopipeError as error:
            yield f"predict_cor.model: {error}", True
    output = config.full_recon.output
    needed = {f"full_recon.output: {output}": FORMATS[output].package}
    if "dinov2" in config.predict_cor.methods:
        needed["predict_cor.methods: dinov2"] = "torch"
    for key, package in needed.items():
        if package and find_spec(package) is None:
            line = f"{key} needs the package {package}, which is not installed. "
            yield f"{line}pip install 'tomopipe[{package}]', or set another", True


def closed_folders(campaign: Campaign) -> str:
    """Say which folders a run cannot write; "" if it can."""
    written = (campaign.directory / SNAKEMAKE, campaign.results, campaign.logs.folder)
    files = campaign.files
    below = files.in_relion(STAR), files.stack(""), files.report, files.shifts("")
    for folder in (*written, files.try_center, *(path.parent for path in below)):
        if folder.is_symlink() and not folder.exists():
            return (
                f"{folder}: a link to {os.readlink(folder)}, which does not exist: mount its disk, "
                "or remove the link"
            )
    # jobs of another user may have made the folders of some steps, for this user alone
    made, logs = files.receipt("step").parents[1], campaign.logs
    folders = (made, logs.folder, logs.status_folder)
    steps = [folder / path.name for path in made.glob("*/") for folder in folders]
    if not (shut := closed(written) or closed(steps)):
        return ""
    return (
        f"{some_of([*map(str, shut)], _N_NAMED)}: cannot be written, and a run does. Give yourself "
        f"the right to: {giving_rights(shut)}; or copy the campaign to a folder of your own"
    )


def protected_results(campaign: Campaign, jobs: Iterable[tuple[str, str]]) -> list[str]:
    """Name the write-protected results of `jobs` (step and key) in one line."""
    paths = dict.fromkeys(path for job in jobs for path in results_of(campaign, *job))
    results = [path for path in paths if is_protected(campaign.directory / path)]
    if not results:
        return []
    shown = [campaign.directory / path for path in results[:_N_NAMED]]
    how_many = f" ({len(results)})" if len(results) > _N_NAMED else ""
    return [
        f"{some_of(results, _N_NAMED)}{how_many}: write-protected, and kept: a job that is to make "
        f"it again fails, the others run. To have it made: {giving_rights(shown)}"
    ]


def missing_gpu(campaign: Campaign, scans: Iterable[str]) -> str:
    """Say that pending volumes or sweeps need a GPU and there is none; "" otherwise."""
    configs = ((scan, campaign.for_scan(scan).config) for scan in scans)
    if not any(
        "cuda" in (config.full_recon.device, config.try_recon.device)
        and not (campaign.directory / volume_of(campaign, scan)).exists()
        for scan, config in configs
    ):
        return ""
    # in another process: one that has called CUDA cannot fork jobs that use it
    code = "from tomopipe.recon.device import array_module; array_module('cuda')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().rpartition("\n")[2]
    return last.partition("Error: ")[2] or last if done.returncode else ""


def _missing(campaign: Campaign, files_of: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the scans that need a missing file, by its path; `files_of`: those of each scan."""
    networks = campaign.config.predict_cor.own_networks
    needed: dict[str, list[str]] = {path: [] for path in (*campaign.shared_files, *networks)}
    for scan, paths in files_of.items():
        for path in paths:
            needed.setdefault(path, []).append(scan)
    return {p: scans for p, scans in needed.items() if not (campaign.directory / p).exists()}


def _named_files(campaign: Campaign) -> dict[str, list[str]]:
    """Return the files that each selected scan needs, without scans that are such files."""
    files_of = {scan: campaign.for_scan(scan).shared_files for scan in campaign.scans}
    paths = {path for shared in files_of.values() for path in shared}  # of many scans the same
    places = {os.path.abspath(campaign.directory / path) for path in paths}
    return {
        scan: files_of[scan]
        for scan, entry in campaign.scans.items()
        if entry.select != "no" and entry.abspath not in places
    }


def _line(campaign: Campaign, path: str, scans: list[str]) -> str:
    keys = "preprocess.flats, preprocess.darks or input.angles"
    if path in campaign.config.predict_cor.own_networks:
        keys = "predict_cor.model or predict_cor.dinov2_checkpoint"
    fault = f"no such file; {keys} names it"
    if glob.has_magic(path):
        fault = f"no such file, and patterns are not allowed: list the files; {keys} names it"
    return f"{path}: {fault}" + (f" for {scans_named(scans)}" if scans else "")


def nothing_usable(
    campaign: Campaign, rows: InventoryRows, *, with_reason: bool = True
) -> list[str]:
    """Report if no scan would be processed, with the first reason."""
    everything = [*campaign.scans, *(scan.name for scan in campaign.refused)]
    if not everything or campaign.selected_scans(rows):
        return []
    unselected = sum(scan.select == "no" for scan in campaign.scans.values())
    reasons = [
        *(rows[s]["reason"] for s in campaign.scans if s in rows and rows[s]["reason"]),
        *(scan.refused for scan in campaign.refused),
    ]
    why = f"; the first reason: {reasons[0]}" if reasons and with_reason else ""
    takes_in = "; select: yes in scans.tsv includes a scan that is only incomplete or undersized"
    takes_in *= any(scan.select != "yes" for scan in campaign.scans.values())
    return [
        f"none of {len(everything)} scans can be used ({unselected} have select: no){why}. Repair "
        f"the files, or name others in campaign.scans{takes_in}"
    ]
