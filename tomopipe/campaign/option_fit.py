"""Options that fit no scan, by the inventory: what the steps would say, before any job runs."""

from collections.abc import Mapping

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import InventoryRows
from tomopipe.config.blocks import NUMBERS
from tomopipe.config.spans import first_and_last, middle_of_sweep, row_numbers
from tomopipe.errors import ScanError, TomopipeError, grouped, scans_named
from tomopipe.workflow_steps import READING_STEPS, STEPS


def fault(campaign: Campaign, step: str, row: Mapping[str, str]) -> str:
    """Say why a step fails on the scan of this inventory row because of its options, or ""."""
    config = campaign.for_scan(row["scan"]).config
    n_rows, full_turn = int(row["n_rows"]), row["full_turn"]
    half = config.preprocess.half_acquisition
    try:
        n_cols = int(row["n_cols"])
        columns = first_and_last("input.columns", config.input.columns, n_cols, "columns of")
        if config.preprocess.phase.method != "none":
            from tomopipe.prep.phase import phase_strength  # NumPy, which few campaigns need here

            phase_strength(config.preprocess, _numbers(row))
        if half == "yes" and step != "export_stack" and row["keep"] == "true":
            from tomopipe.prep.half_acquisition import is_half_acquisition  # as above

            # refused for fewer than 360 degrees
            is_full = full_turn == "true"
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


def _steps(campaign: Campaign) -> list[str]:
    """Return the steps that read scans in this campaign."""
    return [step for step in READING_STEPS if STEPS[step].is_enabled(campaign)]


def _numbers(row: Mapping[str, str]) -> dict[str, float | None]:
    return {name: float(row.get(name) or 0) or None for name in NUMBERS}


def _check_volume(campaign: Campaign, row: Mapping[str, str], columns: tuple[int, int]) -> None:
    config = campaign.for_scan(row["scan"]).config
    full, n_cols = config.full_recon, columns[1] + 1 - columns[0]
    first_and_last("full_recon.rows", full.rows, int(row["n_rows"]))
    if n_cols < full.binning:
        raise ScanError(f"full_recon.binning: {full.binning} is more than the {n_cols} columns")
    may_be_half = full.half_acquisition(config.preprocess.half_acquisition) != "no"
    n_voxels = n_cols * (2 if may_be_half and row["full_turn"] != "false" else 1)
    for key, crop in (("crop_x", full.crop_x), ("crop_y", full.crop_y)):
        first_and_last(f"full_recon.{key}", crop, n_voxels, "within the slices of")
    if full.unit == "per_cm":
        from tomopipe.geometry import pixels_per_cm

        pixels_per_cm(config.export_star.pixel_size_um or _numbers(row)["pixel_size_um"])


def option_faults(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Name the scans whose options do not fit, a line for each reason."""
    scans = campaign.selected_scans(rows)
    found = grouped((fault(campaign, step, rows[s]), s) for step in _steps(campaign) for s in scans)
    return [f"{scans_named([*dict.fromkeys(of)])}: {why}" for why, of in found.items() if why]


def refuse_option_faults(campaign: Campaign, rows: InventoryRows) -> None:
    """Raise if no scan fits the options of a step: the errors would replace all its results.

    If one fits, the jobs of the others report it.
    """
    scans = campaign.selected_scans(rows)
    for step in _steps(campaign):
        if scans and all(fault(campaign, step, rows[scan]) for scan in scans):
            found = grouped((fault(campaign, step, rows[scan]), scan) for scan in scans)
            reason, named = max(found.items(), key=lambda item: len(item[1]))
            raise TomopipeError(
                f"{scans_named(named)}: {reason.removesuffix('.')}. This applies to all scans, so "
                "nothing is run."
            )
