"""Stacks of a campaign: scans that are stitched into one volume, and problems of stacks."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import InventoryRows
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.campaign.table import did_you_mean

# Options that must be equal for all volumes of a stack.
_ALIKE = {
    "full_recon": ("binning", "unit", "crop_x", "crop_y"),
    "preprocess": ("half_acquisition",),
    "input": ("pixel_size_um",),
}


@dataclass(frozen=True)
class Stack:
    """Scans at several heights."""

    name: str  # name of the stack, also in its files
    scans: tuple[str, ...]  # its scans, in order of height
    problem: str = ""  # why it cannot be stitched, or empty


def declared_stacks(campaign: Campaign, rows: InventoryRows | None = None) -> list[Stack]:
    """Return the stacks of the configuration, with problems of their declaration.

    With `rows`, the inventory, different widths are a problem, too.
    """
    stacks = [
        Stack(name, _expanded(campaign, entries))
        for name, entries in campaign.config.stitch.stacks.items()
    ]
    uses = Counter(scan for stack in stacks for scan in stack.scans)
    return [
        replace(stack, problem=_wrong(campaign, stack, uses) or _other_width(stack, rows or {}))
        for stack in stacks
    ]


def find_stacks(campaign: Campaign, rows: InventoryRows, resolved: Collection[str]) -> list[Stack]:
    """Return the stacks, with problems that prevent stitching; `resolved`: scans with a COR."""
    return [
        stack
        if stack.problem
        else replace(stack, problem=_missing(campaign, stack, rows, resolved))
        for stack in declared_stacks(campaign, rows)
    ]


def stack_notes(campaign: Campaign, rows: InventoryRows) -> tuple[str, ...]:
    """Describe the stacks that will not be stitched; missing CORs are reported elsewhere."""
    return tuple(
        f"stack {stack.name} will not be stitched: {stack.problem}"
        for stack in find_stacks(campaign, rows, rows)
        if stack.problem
    )


def _expanded(campaign: Campaign, entries: list[str]) -> tuple[str, ...]:
    """Return the scans of a stack as listed; those of a pattern in order of their numbers."""
    order = sorted(campaign.scans.values(), key=lambda scan: (scan.series, scan.index, scan.name))
    results: list[str] = []
    for entry in entries:
        if entry in campaign.scans:
            results.append(entry)
        else:
            matching = [scan.name for scan in order if fnmatchcase(scan.name, entry)]
            results += matching or [entry]
    return tuple(results)


def _wrong(campaign: Campaign, stack: Stack, uses: Counter[str]) -> str:
    """Describe a problem of a stack in the configuration; "" if there is none."""
    if unknown := [scan for scan in stack.scans if scan not in campaign.scans]:
        name = unknown[0]
        return f"no scan {name} in the campaign{did_you_mean(name, campaign.scans)}"
    if len(stack.scans) < 2:
        return f"expected at least two scans, got {', '.join(stack.scans) or 'none'}"
    if twice := [scan for scan in stack.scans if uses[scan] > 1]:
        return f"{twice[0]} appears in stitch.stacks more than once"
    configs = [campaign.for_scan(scan).config for scan in stack.scans]
    for block, keys in _ALIKE.items():
        for key in keys:
            values = [getattr(getattr(config, block), key) for config in configs]
            for scan, value in zip(stack.scans, values, strict=True):
                if value != values[0]:
                    return (
                        f"{block}.{key} is {values[0]} for {stack.scans[0]} and {value} for "
                        f"{scan}; expected one value for all scans of a stack"
                    )
    return ""


def _other_width(stack: Stack, rows: InventoryRows) -> str:
    with_size = [scan for scan in stack.scans if scan in rows and rows[scan]["n_cols"]]
    for first, scan in ((with_size[0], other) for other in with_size):
        expected, n_cols = rows[first]["n_cols"], rows[scan]["n_cols"]
        if n_cols != expected:
            return (
                f"{first} has {expected} columns and {scan} {n_cols}; expected the same width for "
                "all scans of a stack"
            )
    return ""


def _missing(
    campaign: Campaign, stack: Stack, rows: InventoryRows, resolved: Collection[str]
) -> str:
    """Return why a scan of a stack will have no volume; "" if all will."""
    for scan in stack.scans:
        row = rows.get(scan)
        if row is None:
            return f"{scan} is not in the inventory"
        select = campaign.scans[scan].select
        if state := not_selected(select, row):
            return f"{scan} is {state}: {why_not_selected(select, row)}"
        if scan not in resolved:
            return f"{scan} has no COR"
    return ""
