"""Options that count rows, columns or voxels, applied to a scan of known size; values of a sweep.

Does not import NumPy: the main process of a run imports this module.
"""

import math
import re
from collections.abc import Sequence

from tomopipe.config.cor_blocks import TryReconBlock
from tomopipe.errors import ScanError, ScanFaultError, TomopipeError

_SPAN = re.compile(r"([-+.\de]*\d)\.\.([-+.\de]*\d)", re.IGNORECASE)
_MOST_VALUES = 1000  # of a sweep
_FEW_VALUES = 4  # they are listed


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


def with_spans(words: Sequence[str]) -> list[str]:
    """Write out spans among the values of a sweep: `10..150 20` are 10, 30 and so on up to 150."""
    values, rest = list[str](), list(words)
    while rest:
        word = rest.pop(0)
        if (span := _SPAN.fullmatch(word)) is None:
            values.append(word)
            continue
        try:
            first, last, step = float(span[1]), float(span[2]), float(rest.pop(0))
            n = math.floor((last - first) / step + 1e-6) + 1
        except (ValueError, IndexError, ZeroDivisionError):
            raise TomopipeError(f"{word}: expected START..STOP STEP, such as 10..150 20") from None
        if not 1 <= n <= _MOST_VALUES:
            raise TomopipeError(f"{word} {step:g}: expected 1 to {_MOST_VALUES} values, got {n}")
        values += [f"{first + step * i:.9g}" for i in range(n)]
    return values


def as_span(values: Sequence[object]) -> str:
    """Write values as `with_spans` reads them: many at equal steps as START..STOP STEP."""
    listed = [f"{each:.9g}" if isinstance(each, float) else str(each) for each in values]
    if len(values) > _FEW_VALUES:
        try:
            step = f"{float(listed[1]) - float(listed[0]):.9g}"
            span = f"{listed[0]}..{listed[-1]} {step}"
            if with_spans(span.split()) == listed:
                return span
        except (ValueError, TomopipeError):
            pass
    return " ".join(listed)
