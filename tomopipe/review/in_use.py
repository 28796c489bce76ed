"""The slice of one detector row of a scan at the COR in use, for scrubbing through a series."""

from dataclasses import replace
from typing import Any

from tomopipe.cor.cor_value import same_cor
from tomopipe.errors import TomopipeError
from tomopipe.report.records import ScanRecord
from tomopipe.review.queue import shown_cor, with_cells
from tomopipe.review.scan_images import Grey, grey16
from tomopipe.review.store import Store
from tomopipe.volumes.volume_read import open_volume

_MOST_PX = 1024  # larger slices are averaged where the volume has averages


def slice_in_use(store: Store, name: str, row: int | None) -> Grey:
    """Return the slice of a detector row, by default the middle one, at the COR in use.

    It is of the volume. Without one that was made at this COR it is made from the rows that the
    sweep has kept, of which it is the nearest.
    """
    record = with_cells(store.scan(name), store.cells().get(name, {}))
    cor_px = shown_cor(record)
    if record.shape is None or cor_px is None:
        raise TomopipeError(f"{name}: no COR in use, and so no slice.")
    n_rows = record.shape[1]
    row = n_rows // 2 if row is None else min(row, n_rows - 1)
    if is_of_volume(record, cor_px):
        return _of_volume(store, record, row)
    if not record.swept:
        raise TomopipeError(
            f"{name}: no slice at COR {cor_px:.2f} yet: it has no sweep. `tomopipe run` makes its "
            "volume."
        )
    rows = store.pictures.details(name)["rows"]
    nearest = min(rows, key=lambda each: abs(each - row))
    picture = store.pictures.slice(name, cor_px, rows.index(nearest))
    about = {"row": nearest, "n_rows": n_rows, "of": "its sweep", "pixel_px": 1}
    return replace(picture, about=about)


def is_of_volume(record: ScanRecord, cor_px: float | None) -> bool:
    """Whether a scan has a volume that was made at the COR in use."""
    if cor_px is None or record.volume is None or record.volume_of:
        return False
    return record.shape is not None and same_cor(record.cor_px, cor_px)


def _of_volume(store: Store, record: ScanRecord, row: int) -> Grey:
    assert record.volume
    rows = store.campaign.for_scan(record.name).config.full_recon.rows
    with open_volume(record.volume, check_sizes=False) as volume:
        binning = int(volume.attributes.get("binning", 1))
        first = 0 if rows == "all" else rows[0]
        at = min(max(row - first, 0) // binning, volume.shape[0] - 1)
        factors = sorted(volume.arrays)
        fit = (f for f in factors if max(volume.shape[1:]) <= _MOST_PX * f)
        factor = next(fit, factors[-1])
        image = volume.read_plane("xy", at, factor, slice(None))
    about: dict[str, Any] = {
        "row": first + at * binning,
        "n_rows": (record.shape or (0, 0, 0))[1],
    }
    about |= {"pixel_px": factor * binning}  # detector pixels of one of the picture
    return replace(grey16(image, None), about=about | {"of": "its volume"})
