"""Comparison of the results on disk with their receipts."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CENTER, SIDECAR, STACK, TRY_STACK
from tomopipe.reruns.receipts import Receipts, State, is_followed_within, state_of
from tomopipe.storage.checksums import Progress, matches, sizes_match


@dataclass(frozen=True)
class Product:
    """A file of a result as its receipt has it."""

    path: str  # relative to the campaign folder, or absolute
    state: State
    checksum: str  # taken while it was written; "" if unknown

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return self.state[0]


def recorded(campaign: Campaign) -> list[Product]:
    """Return the results that have a receipt, in order of path.

    Without those for people to edit, and the report, which `tomopipe report` makes at any time.
    """
    storage = campaign.config.storage
    sidecars = {
        where(s) for where in (campaign.sidecar, campaign.outputs.sidecar) for s in campaign.scans
    }
    temporary = [f"/{TRY_STACK}"] + [STACK] * (not storage.keep_stacks)
    receipts = Receipts(campaign.directory, campaign.outputs)
    products = [
        Product(path, state, receipt.sums.get(path, ""))
        for receipt in receipts.present()
        for path, state in receipt.files.items()
    ]
    return [
        product
        for product in sorted(products, key=lambda product: product.path)
        if not (path := product.path).endswith((CENTER, campaign.outputs.report))
        and (path in sidecars or not path.endswith(SIDECAR))  # those of folders before a move
        and (os.path.lexists(campaign.directory / path) or not path.endswith(tuple(temporary)))
    ]


def damaged(
    directory: Path, products: Sequence[Product], progress: Progress, *, deep: bool, threads: int
) -> Iterator[tuple[Product, str]]:
    """Yield changed results and their differences as they are found.

    `deep`: read all content and compare checksums, regardless of times; else compare only sizes and
    times, of volumes that are folders the names and sizes of all files. Each thread looks at one
    result; `progress` is called with the number of bytes done since the last call, from any of
    them.
    """

    def difference(product: Product) -> str:
        path = directory / product.path
        if deep and product.checksum:
            return matches(path, product.checksum, progress)
        progress(product.n_bytes)
        return _differs(path, product, deep)

    with ThreadPoolExecutor(threads) as pool:
        for product, what in zip(products, pool.map(difference, products), strict=True):
            if what:
                yield product, what


def _differs(path: Path, product: Product, deep: bool) -> str:
    result = state_of(path)
    if result is None:
        return "cannot be read" if os.path.lexists(path) else "missing"
    if result != product.state and product.checksum and is_followed_within(path):
        return matches(path, product.checksum)  # small files, of which no times are on record
    try:
        if path.is_dir() and (what := sizes_match(path)):
            return what
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if result[0] != product.n_bytes:
        return f"{result[0]} bytes, {product.n_bytes} expected"
    is_of_other_time = not deep and result[1] != product.state[1]
    return "of another time than on record; --deep compares its content" if is_of_other_time else ""
