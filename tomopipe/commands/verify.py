"""Results on disk compared with their recorded sizes, times and checksums."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CENTER, SIDECAR, STACK, TRY_STACK
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.reruns.receipts import Receipts, State, is_followed_within, state_of
from tomopipe.storage.checksums import Progress, matches, sizes_match
from tomopipe.workflow_steps import STEPS

OTHER_TIME = "modified at another time than recorded; there is no checksum to compare it with"


@dataclass(frozen=True)
class Product:
    """A file of a result, as in its receipt."""

    path: str  # relative to the campaign folder, or absolute
    state: State
    checksum: str  # taken while it was written; "" if unknown

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return self.state[0]


def recorded(campaign: Campaign) -> list[Product]:
    """Return the results that have a receipt, in order of path.

    Without editable files, the report, which `tomopipe report` makes at any time, and what has gone
    of scans that are not selected, which no run makes.
    """
    storage, scans = campaign.config.storage, campaign.scans
    rows = present_inventory(campaign.files.inventory)
    unselected = {s for s, entry in scans.items() if not_selected(entry.select, rows.get(s))}
    sidecars = {sidecar_of(campaign, s) for s in scans} | {*map(campaign.outputs.sidecar, scans)}
    temporary = [f"/{TRY_STACK}"] + [STACK] * (not storage.keep_stacks)
    receipts = Receipts(campaign.directory, campaign.outputs)
    products = [
        Product(path, state, receipt.sums.get(path, ""))
        for step in STEPS
        for key in receipts.keys(step)
        if (receipt := receipts.of(step, key))
        for path, state in receipt.files.items()
        if key not in unselected or os.path.lexists(campaign.directory / path)
    ]
    return [
        product
        for product in sorted(products, key=lambda product: product.path)
        if not (path := product.path).endswith((CENTER, campaign.outputs.report))
        # without those in former folders, before a move
        and (path in sidecars or not path.endswith(SIDECAR))
        and (os.path.lexists(campaign.directory / path) or not path.endswith(tuple(temporary)))
    ]


def damaged(
    directory: Path, products: Sequence[Product], progress: Progress, *, deep: bool, threads: int
) -> Iterator[tuple[Product, str]]:
    """Yield changed results and their differences as they are found.

    `deep`: read all content and compare checksums, regardless of times; else compare only sizes and
    times, and of volumes that are folders the names and sizes of all files; where only the time
    differs, the content. Each thread looks at one result;
    `progress` is called with the number of bytes done since the last call, from any of them.
    """

    def difference(product: Product) -> str:
        path = directory / product.path
        if not (deep and product.checksum):
            what = _differs(path, product, deep)
            if what != OTHER_TIME or not product.checksum:
                progress(product.n_bytes)
                return what
        return matches(path, product.checksum, progress)

    with ThreadPoolExecutor(threads) as pool:
        for product, what in zip(products, pool.map(difference, products), strict=True):
            if what:
                yield product, what


def _differs(path: Path, product: Product, deep: bool) -> str:
    """Describe how a result differs by size and time; of small files in a folder by content."""
    result = state_of(path)
    if result is None:
        return "cannot be read" if os.path.lexists(path) else "missing"
    if result != product.state and product.checksum and is_followed_within(path):
        return matches(path, product.checksum)  # small files, without recorded times
    try:
        if path.is_dir() and (what := sizes_match(path)):
            return what
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if result[0] != product.n_bytes:
        return f"{result[0]} bytes, {product.n_bytes} expected"
    return "" if deep or result[1] == product.state[1] else OTHER_TIME
