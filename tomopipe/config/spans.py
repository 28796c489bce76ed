"""Options that count rows, columns or voxels, applied to a scan of known size.

Does not import NumPy: the main process of a run imports this module.
"""

import math
from collections.abc import Sequence

from tomopipe.config.step_blocks import TryReconBlock
from tomopipe.errors import ScanError, ScanFaultError


def first_and_last(
    key: str, span: str | Sequence[int], n: int, of: str = "rows of"
) -> tuple[int, int]:
    """Return the ends of a span, both included, within `n` rows, columns or voxels.

    Raises ScanError if it reaches beyond; the message names the option, `key`.
    """
    if isinstance(span, str):
        return 0, n - 1
    first, last = span
    if not 0 <= first <= last < n:
        raise ScanFaultError(f"{key}: [{first}, {last}] are not {of} this scan (0 to {n - 1})")
    return first, last


def row_numbers(row: float | int | Sequence[float | int], n_rows: int) -> list[int]:
    """Turn fractions of the height (floats) and row numbers (ints) into rows, each once.

    0.5 is the middle row, 0 the first, 0.0 too, 1 the second, 1.0 the last. Raises ScanError if
    there is no such row.
    """
    rows = []
    for value in row if isinstance(row, Sequence) else [row]:
        is_fraction = isinstance(value, float)
        number = math.floor(value * (n_rows - 1) + 0.5) if is_fraction else int(value)
        if not 0 <= number < n_rows:
            raise ScanError(f"try_recon.row: {value} is not a row of this scan (0 to {n_rows - 1})")
        rows.append(number)
    return list(dict.fromkeys(rows))


def middle_of_sweep(options: TryReconBlock, first_col: int, last_col: int) -> float:
    """Return the middle of the candidate CORs (pixels).

    Raises ScanError if no candidate is on the detector columns in use.
    """
    center_px, width_px = options.center_px, options.width_px
    middle_px = (first_col + last_col) / 2 if center_px is None else center_px
    if middle_px + width_px < first_col or middle_px - width_px > last_col:
        raise ScanError(
            f"try_recon: no candidate in {middle_px:g} +- {width_px:g} px lies on the detector "
            f"({first_col} to {last_col}). Set try_recon.center_px."
        )
    return middle_px


def check_place(cor_px: float, first_col: int, last_col: int, detector_cols: int) -> None:
    """Raise ScanError if a COR is outside the columns in use of the detector."""
    if not first_col <= cor_px <= last_col:
        what = "detector" if last_col - first_col + 1 == detector_cols else "columns in use"
        raise ScanError(
            f"COR {cor_px:g} px is off the {what} ({first_col} to {last_col}); set another"
        )
