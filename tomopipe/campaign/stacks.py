"""Stacks of a campaign: scans that become one volume, by height or in time, and their problems."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import InventoryRows
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.campaign.table import did_you_mean
from tomopipe.errors import grouped, some_of

# Options that must be equal for all volumes of a stack.
_ALIKE = {
    "full_recon": ("binning", "unit", "crop_x", "crop_y"),
    "preprocess": ("half_acquisition",),
    "input": ("pixel_size_um",),
}


_N_NAMED = 4  # names in a sentence


@dataclass(frozen=True)
class Stack:
    """Scans at several heights, or in time."""

    name: str  # name of the stack, also in its files
    scans: tuple[str, ...]  # its scans, in order of height or time
    problem: str = ""  # why there will be no volume, or empty
    is_time: bool = False
    # in time: scans without a volume, whose place stays empty, and why; recorded times of scans
    gaps: Mapping[str, str] = field(default_factory=dict)
    times_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def option(self) -> str:
        """The key of the configuration that declares it."""
        return "stitch.time" if self.is_time else "stitch.stacks"

    @property
    def with_volume(self) -> tuple[str, ...]:
        """The scans whose volumes are read."""
        return tuple(scan for scan in self.scans if scan not in self.gaps)

    @property
    def gaps_text(self) -> str:
        """Name the gaps, and why."""
        texts = [f"{scan} ({why})" for scan, why in self.gaps.items()]
        n = len(texts)
        return f"{n} gap{'s' * (n > 1)}: {some_of(texts, _N_NAMED)}" if n else ""


def declared_stacks(campaign: Campaign, rows: InventoryRows | None = None) -> list[Stack]:
    """Return the stacks of the configuration, with problems of their declaration.

    With `rows`, the inventory, different widths are a problem, too.
    """
    stitch = campaign.config.stitch
    if not stitch.names:
        return []
    scans = sorted(campaign.scans.values(), key=lambda scan: (scan.series, scan.index, scan.name))
    order, series = {scan.name: None for scan in scans}, grouped((s.series, s.name) for s in scans)
    stacks = [Stack(name, _expanded(each, order, {})) for name, each in stitch.stacks.items()]
    uses = Counter(scan for stack in stacks for scan in stack.scans)
    for name, each in stitch.time.items():
        entries = [each] if isinstance(each, str) else each
        stacks.append(Stack(name, _expanded(entries, order, series), is_time=True))
    return [
        replace(
            stack,
            problem=_wrong(campaign, stack, uses) or _other_size(campaign, stack, rows or {}),
        )
        for stack in stacks
    ]


def find_stacks(campaign: Campaign, rows: InventoryRows, resolved: Collection[str]) -> list[Stack]:
    """Return the stacks, with problems that prevent stitching; `resolved`: scans with a COR."""
    return [
        stack if stack.problem else _complete(campaign, stack, rows, resolved)
        for stack in declared_stacks(campaign, rows)
    ]


def _complete(
    campaign: Campaign, stack: Stack, rows: InventoryRows, resolved: Collection[str]
) -> Stack:
    """Return a stack with its gaps, or with what is missing as its problem."""
    missing = {s: why for s in stack.scans if (why := _missing(campaign, s, rows, resolved))}
    if not stack.is_time:
        lines = (f"{scan} {why}" for scan, why in missing.items())
        return replace(stack, problem=next(lines, ""))
    if len(missing) == len(stack.scans):
        scan, why = next(iter(missing.items()))
        return replace(stack, problem=f"none of its scans will have a volume: {scan} {why}")
    times_s = {scan: rows[scan].get("time_s") for scan in stack.scans if scan in rows}
    return replace(stack, gaps=missing, times_s={s: float(t) for s, t in times_s.items() if t})


def _expanded(
    entries: Iterable[str], order: Collection[str], series: Mapping[str, list[str]]
) -> tuple[str, ...]:
    """Return the scans of a stack as listed; those of a pattern in `order`, by their numbers.

    A name in `series` stands for its scans.
    """
    results: list[str] = []
    for entry in entries:
        if entry in series:
            results += series[entry]
        elif entry in order:
            results.append(entry)
        else:
            results += [scan for scan in order if fnmatchcase(scan, entry)] or [entry]
    return tuple(results)


def _wrong(campaign: Campaign, stack: Stack, uses: Counter[str]) -> str:
    """Describe a problem of a stack in the configuration; "" if there is none."""
    if unknown := [scan for scan in stack.scans if scan not in campaign.scans]:
        name, series = unknown[0], sorted({scan.series for scan in campaign.scans.values()})
        hint = did_you_mean(name, [*campaign.scans, *(series if stack.is_time else ())])
        if not stack.is_time:
            return f"no scan {name} in the campaign{hint}"
        listed = some_of(series, _N_NAMED) or "none"
        return f"no series or scan {name} in the campaign, whose series are {listed}{hint}"
    least, number = (1, "one scan") if stack.is_time else (2, "two scans")
    if len(stack.scans) < least:
        return f"expected at least {number}, got {', '.join(stack.scans) or 'none'}"
    if stack.is_time:
        uses = Counter(stack.scans)  # a scan may be in several
    if twice := [scan for scan in stack.scans if uses[scan] > 1]:
        return f"{twice[0]} appears in {stack.option} more than once"
    configs = [campaign.for_scan(scan).config for scan in stack.scans]
    for block, keys in _ALIKE.items():
        rows = ("rows",) if stack.is_time and block == "full_recon" else ()
        for key in (*keys, *rows):
            values = [getattr(getattr(config, block), key) for config in configs]
            for scan, value in zip(stack.scans, values, strict=True):
                if value != values[0]:
                    return (
                        f"{block}.{key} is {values[0]} for {stack.scans[0]} and {value} for "
                        f"{scan}; expected one value for all scans of a stack"
                    )
    return ""


def _other_size(campaign: Campaign, stack: Stack, rows: InventoryRows) -> str:
    """Name two scans of other width, or in time of other height; "" if there are none."""
    with_size = [
        scan
        for scan in stack.scans
        if scan in rows and rows[scan]["n_cols"]
        if not (stack.is_time and not_selected(campaign.scans[scan].select, rows[scan]))
    ]
    sides = {"n_cols": ("columns", "width")}
    if stack.is_time:
        sides["n_rows"] = ("rows", "height")
    for first, scan in ((with_size[0], other) for other in with_size):
        for key, (pixels, side) in sides.items():
            expected, n = rows[first][key], rows[scan][key]
            if n != expected:
                return (
                    f"{first} has {expected} {pixels} and {scan} {n}; expected the same {side} for "
                    "all scans of a stack"
                )
    return ""


def _missing(campaign: Campaign, scan: str, rows: InventoryRows, resolved: Collection[str]) -> str:
    """Return why a scan of a stack will have no volume; "" if it will."""
    row = rows.get(scan)
    if row is None:
        return "is not in the inventory"
    select = campaign.scans[scan].select
    if state := not_selected(select, row):
        return f"is {state}: {why_not_selected(select, row)}"
    return "" if scan in resolved else "has no COR"
