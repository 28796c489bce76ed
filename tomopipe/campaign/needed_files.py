"""Files and packages that scans need: those that are missing, before any job runs."""

import glob
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.raw_files import path_problems
from tomopipe.cor_methods import method_named
from tomopipe.errors import TomopipeError, scans_named
from tomopipe.volume_formats import FORMATS


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
    for name in config.predict_cor.methods:
        needed[f"predict_cor.methods: {name}"] = method_named(name).method.extra
    for key, package in needed.items():
        if package and find_spec(package) is None:
            line = f"{key} needs the package {package}, which is not installed. "
            yield f"{line}pip install 'tomopipe[{package}]', or set another", True


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
    keys = "preprocess.flats, preprocess.darks, preprocess.shifts or input.angles"
    if path in campaign.config.predict_cor.own_networks:
        keys = "predict_cor.model or predict_cor.dinov2_checkpoint"
    fault = f"no such file; {keys} names it"
    if glob.has_magic(path):
        fault = f"no such file, and patterns are not allowed: list the files; {keys} names it"
    return f"{path}: {fault}" + (f" for {scans_named(scans)}" if scans else "")
