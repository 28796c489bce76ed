"""Comparison of the results on disk with the campaign's record."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CENTER, SIDECAR, STACK, TRY_STACK
from tomopipe.reruns.products import Product, is_followed_within, made_state_of, read_products
from tomopipe.storage.checksums import Progress, matches
from tomopipe.storage.manifest import sizes_match


def recorded(campaign: Campaign) -> list[Product]:
    """Read the results in the record, in order of path; none if there is no record yet.

    Without those for people to edit, and the report, which `tomopipe report` makes at any time.
    """
    storage = campaign.config.storage
    sidecars = {
        where(s) for where in (campaign.sidecar, campaign.outputs.sidecar) for s in campaign.scans
    }
    temporary = [f"/{TRY_STACK}"] + [STACK] * (not storage.keep_stacks)
    return [
        product
        for path, product in sorted(read_products(campaign.files.record).items())
        if not product.is_raw
        and not path.endswith((CENTER, campaign.outputs.report))
        and (path in sidecars or not path.endswith(SIDECAR))  # those of folders before a move
        and (os.path.lexists(campaign.directory / path) or not path.endswith(tuple(temporary)))
    ]


def damaged(
    directory: Path, products: Sequence[Product], progress: Progress, *, deep: bool, threads: int
) -> Iterator[tuple[Product, str]]:
    """Yield changed results and their differences as they are found.

    `deep`: read all content and compare checksums, regardless of times; else compare only sizes and
    times, of volumes that are folders the names and sizes of all files. `progress` is called with
    the number of bytes done since the last call, from any thread.
    """
    for product in products:
        path = directory / product.path
        if deep and product.checksum:
            what = matches(path, product.checksum, threads=threads, progress=progress)
        else:
            what = _differs(path, product, deep)
            progress(product.n_bytes)
        if what:
            yield product, what


def _differs(path: Path, product: Product, deep: bool) -> str:
    found = made_state_of(path)
    if found is None:
        return "cannot be read" if os.path.lexists(path) else "missing"
    if found != product.state and product.checksum and is_followed_within(path):
        return matches(path, product.checksum)  # small files, of which no times are on record
    try:
        if path.is_dir() and (what := sizes_match(path)):
            return what
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if found[0] != product.n_bytes:
        return f"{found[0]} bytes, {product.n_bytes} expected"
    is_of_other_time = not deep and found[1] != product.mtime_ns
    return "of another time than on record; --deep compares its content" if is_of_other_time else ""
