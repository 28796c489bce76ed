"""Rules for the centres of rotation (COR) of one series: what is outlying, missing, resolved [1]_.

Pure functions on values in unbinned, uncropped detector pixels, 0-based; whole numbers are centres.
A fix starts from the manual and predicted CORs, never from an earlier fix: running it twice gives
the same rows.

References
----------
.. [1] TomoGUI manual, "COR Management", "Fix COR Outliers".
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from tomopipe.cor.cor_value import (
    NO_TEXT,
    CorText,
    format_cor,
    is_valid,
    off_detector,
    px_of,
    with_error,
)
from tomopipe.storage.json_files import number

# reasons that other modules look for
EDITED = "center_of_rotation.txt edited by hand"
EMPTIED = "center_of_rotation.txt emptied by hand"
NOT_ASKED = "no method was asked (predict_cor.methods is empty)"
NO_SINGLE_COR = "no single COR is right"
SLICES_MIXED = "slices mix rows that are as far apart"
NOT_SWEPT = "not swept (try_recon.every: "
CONFIDENT_OUTLIER = "; kept (confidence "
NO_NEIGHBOUR = "no good neighbour, kept"
FROM_ONE = "mean of 1 of the series"
JUDGED_BY_FEW = "fewer than 3 trusted CORs judge it"
#: Sources of CORs for scans without one.
FILLS = ("neighbours", "series-mean", "line", "place", "time")
MIN_LIMIT_PX = 10.0  # a tight series does not flag everything
MAD_FACTOR = 5.0
NEIGHBOURS_AGREE_PX = 10.0
MAX_SURE_PX = 1.0  # a filled COR of a larger error is doubtful
# CORs are stored to 0.01 px; the last bit of a difference of floats must not decide.
_ROUNDING_PX = 1e-6


@dataclass(frozen=True)
class Member:
    """One scan of a series before fixing: its manual and predicted COR."""

    scan: str
    index: int
    n_cols: int
    manual: CorText = NO_TEXT  # the cell of the campaign table
    predicted_px: float | None = None
    predicted_source: str = "auto"  # or "ai"; "manual" where the file was edited by hand
    confidence: float = 0.0  # of the prediction; 0 where `protect_confident` does not apply
    selected: bool = True  # False: `select: no`; only a donor in pass 2
    note: str = ""  # remark for the reason
    no_cor_reason: str = ""  # why there is no predicted COR, reported if there is no other one
    # for `tomopipe.cor.fill` alone
    is_trusted: bool = True  # the predicted COR is without doubt
    position: int = 1  # in its series, from 1
    length: int = 1  # scans of its series
    pixel_um: str = ""  # size of a pixel, as in the inventory
    height: float | None = None  # of the stage, as recorded
    file: str = ""  # of a view whose file has a model over time (`fix_cor.over_time`)

    @property
    def layout(self) -> tuple[int, str]:
        """What scans must have in common to be compared: columns and binning."""
        return self.n_cols, self.pixel_um


@dataclass(frozen=True)
class Fix:
    """The result of fixing one scan: a row of the table of a series, with its columns."""

    scan: str
    index: int
    before_px: float | None
    after_px: float | None
    source: str  # manual, ai, auto, outlier, one of FILLS; "" without a COR
    flagged: bool  # further from the median than the limit, replaced or not
    reason: str
    limit_px: float | None  # None where the series has fewer than two CORs
    neighbours: tuple[str, ...] = ()
    # of `fix_cor.fill: best`: the estimate, used or not, and its error (0.9)
    fill_px: float | None = None
    fill_error_px: float | None = None

    @property
    def is_by_file(self) -> bool:
        """Whether a person changed center_of_rotation.txt.

        The prediction and its confidence then do not describe the COR.
        """
        return EDITED in self.reason or EMPTIED in self.reason

    @property
    def is_confident_outlier(self) -> bool:
        """Whether it is a confident outlier that was kept."""
        return CONFIDENT_OUTLIER in self.reason

    @property
    def is_for_default(self) -> bool:
        """Whether the COR is filled from the series because no method was asked about this scan.

        `default_px` then wins: a COR set by hand for one scan must not move all others.
        """
        return self.source in FILLS and NOT_ASKED in self.reason

    @property
    def is_unswept(self) -> bool:
        """Whether the COR is filled because `try_recon.every` leaves the scan without a sweep."""
        return self.source in FILLS and NOT_SWEPT in self.reason

    @property
    def error_px(self) -> float | None:
        """The error of a COR that is not the scan's own; None if it is, or the error is unknown."""
        return self.fill_error_px if self.source in (*FILLS, "outlier") else None

    @property
    def fill_doubt(self) -> str:
        """Why a filled COR is doubtful; "" if it is not, or `fix_cor.fill` is series."""
        if self.source not in FILLS or self.fill_px is None:
            return ""
        if JUDGED_BY_FEW in self.reason:
            return f"filled with {with_error(self.fill_px, self.fill_error_px)}: {JUDGED_BY_FEW}"
        is_far = self.fill_error_px is None or self.fill_error_px > MAX_SURE_PX
        return f"filled with {with_error(self.fill_px, self.fill_error_px)}" if is_far else ""

    def cells(self) -> dict[str, str]:
        """Return the cells of its row, CORs with two decimals."""
        numbers = {name: format_cor(getattr(self, name)) for name in _IN_PX}
        texts = {"index": str(self.index), "neighbours": ";".join(self.neighbours)}
        return vars(self) | numbers | texts | {"flagged": "true" if self.flagged else "false"}


#: Columns of the table of a series; those of estimates are missing from older ones.
FIX_TABLE = tuple(column.name for column in fields(Fix))
FIX_COLUMNS = tuple(name for name in FIX_TABLE if not name.startswith("fill"))
_IN_PX = ("before_px", "after_px", "limit_px", "fill_px", "fill_error_px")


def parse_fixes(rows: Iterable[Mapping[str, str]]) -> dict[str, Fix]:
    """Return the rows of tables of fix_cor by scan.

    Parameters
    ----------
    rows : iterable of mappings
        Cells by column (`FIX_COLUMNS`), as text.

    Returns
    -------
    dict of str to Fix
        CORs in unbinned pixels; None where a cell is empty.
    """
    return {
        row["scan"]: Fix(
            scan=row["scan"],
            index=int(number(row["index"]) or 0),
            source=row["source"],
            flagged=row["flagged"] == "true",
            reason=row["reason"],
            neighbours=tuple(filter(None, row["neighbours"].split(";"))),
            **{name: px_of(cell) if (cell := row.get(name)) else None for name in _IN_PX},
        )
        for row in rows
    }


def uses_estimates(fixes: Iterable[Fix]) -> bool:
    """Tell whether a COR of a series was compared with estimates, or filled with one."""
    return any(fix.fill_px is not None or fix.flagged or fix.before_px is None for fix in fixes)


def finite_median(cor_px: Iterable[float | None]) -> float | None:
    """Return the median of the finite numbers; None if there are none."""
    finite_px = [px for px in cor_px if px is not None and math.isfinite(px)]
    return statistics.median(finite_px) if finite_px else None


def outlier_limit(
    cor_px: Sequence[float | None], *, max_delta_px: float
) -> tuple[float, float] | None:
    """Return the median of a series and the outlier limit: largest accepted distance from it, px.

    The limit is min(max_delta_px, max(10, 5 * MAD)), with the unscaled MAD, median |v - median|.
    None, NaN and inf count as unknown. None if no COR is known.
    """
    if not max_delta_px > 0:
        raise ValueError(f"max_delta_px: expected a number above 0, got {max_delta_px}")
    median_px = finite_median(cor_px)
    if median_px is None:
        return None
    away_px = (abs(value_px - median_px) for value_px in cor_px if value_px is not None)
    mad_px = finite_median(away_px) or 0.0
    return median_px, min(max_delta_px, max(MIN_LIMIT_PX, MAD_FACTOR * mad_px))


def limit_source(limit_px: float, max_delta_px: float) -> str:
    """Name the term of `outlier_limit` that a limit comes from."""
    if limit_px == max_delta_px:
        return "max_delta_px"
    if limit_px == MIN_LIMIT_PX:
        return f"the smallest limit, as {MAD_FACTOR:g} MAD of the series is less"
    return f"{MAD_FACTOR:g} MAD of the series"


def fix_series(
    members: Sequence[Member],
    *,
    max_delta_px: float,
    protect_manual: bool,
    protect_confident: float | None = None,
    model: tuple[Callable[[float], float | None], str] | None = None,
) -> list[Fix]:
    """Replace outlying CORs of one series and fill missing ones.

    Pass 1 replaces each flagged COR by the mean of its nearest good neighbours, one on each side
    (at an end the only one there is), and fills a gap whose two neighbours agree within 10 px. Pass
    2 fills what is still missing with the mean of the series. Neither a replaced nor a filled value
    serves as a neighbour, nor a filled one as a donor, so the order of work does not matter.

    Parameters
    ----------
    members : sequence of Member
        All scans of the series, in any order; only selected ones are checked and changed.
    max_delta_px : float
        Largest distance from the median ever kept, unbinned pixels.
    protect_manual : bool
        Whether manual CORs are kept, and trusted as neighbours, wherever they lie.
    protect_confident : float, optional
        Confidence, 0 to 1, from which predictions are kept, too; flagged ones are no donors.
    model : tuple, optional
        The COR expected at an index, and the name of the model: CORs are compared with it instead
        of their median.

    Returns
    -------
    list of Fix
        One for each selected scan, by index, then by name.
    """
    chosen = sorted((m for m in members if m.selected), key=lambda m: (m.index, m.scan))
    before = _flagged([start(member) for member in chosen], max_delta_px, model)

    def is_fixed(row: Fix) -> bool:
        return row.flagged and not (protect_manual and row.source == "manual")

    good = [row for row in before if row.before_px is not None and not is_fixed(row)]
    after: list[Fix] = []
    donors_px = [start(member).before_px for member in members if not member.selected]
    for row, member in zip(before, chosen, strict=True):
        is_confident = (
            row.flagged
            and row.source != "manual"
            and protect_confident is not None
            and member.confidence >= protect_confident
        )
        if is_fixed(row) or row.before_px is None:
            fixed = _by_neighbours(row, good, member.n_cols)
        else:
            fixed = noted(row, "manual, kept") if row.flagged else row
        if is_confident:
            fixed = confident_outlier(start(member), fixed, member.confidence)
        after.append(fixed)
        # Filled CORs are no donors: only those that existed before, as pass 1 left them.
        if not (row.before_px is None or is_confident):
            donors_px.append(fixed.after_px)
    finite_px = [cor_px for cor_px in donors_px if cor_px is not None]
    return [_filled(row, finite_px, member) for row, member in zip(after, chosen, strict=True)]


def start(member: Member) -> Fix:
    """Start from the manual COR, else the predicted one; note values that cannot be used."""
    notes = [member.note] if member.note else []
    if fault := member.manual.fault(member.n_cols):
        notes.append(f"manual COR {fault}, ignored")
    cor_px, source = member.manual.px_on(member.n_cols), "manual"
    if cor_px is None and is_valid(member.predicted_px, member.n_cols):
        cor_px, source = member.predicted_px, member.predicted_source
        if source == "manual":
            notes.append(EDITED)
    elif cor_px is None and member.predicted_px is not None:
        notes.append(f"predicted COR {off_detector(member.predicted_px, member.n_cols)}, ignored")
    return Fix(
        scan=member.scan,
        index=member.index,
        before_px=cor_px,
        after_px=cor_px,
        source="" if cor_px is None else source,
        flagged=False,
        reason="; ".join(notes),
        limit_px=None,
    )


def _flagged(
    rows: list[Fix],
    max_delta_px: float,
    model: tuple[Callable[[float], float | None], str] | None = None,
) -> list[Fix]:
    """Flag the outliers; a series with fewer than two CORs is left alone."""
    expected_px = [(model[0](row.index) if model else None) or 0.0 for row in rows]
    cor_px = [
        None if row.before_px is None else row.before_px - px
        for row, px in zip(rows, expected_px, strict=True)
    ]
    limit = outlier_limit(cor_px, max_delta_px=max_delta_px)
    if limit is None or len(rows) - cor_px.count(None) < 2:
        return rows
    median_px, limit_px = limit
    checked = []
    for row, px, off_px in zip(rows, expected_px, cor_px, strict=True):
        away_px = 0.0 if off_px is None else abs(off_px - median_px)
        now = replace(row, limit_px=limit_px, flagged=away_px > limit_px + _ROUNDING_PX)
        why = f"{away_px:.2f} px from the median {median_px:.2f} of the series"
        if model:
            why = f"{away_px:.2f} px from {px:.2f} of {model[1]}"
        checked.append(noted(now, f"{why}, limit {limit_px:.2f}") if now.flagged else now)
    return checked


def _by_neighbours(row: Fix, good: list[Fix], n_cols: int) -> Fix:
    """Replace an outlier, or fill a gap, by the mean of its nearest good neighbours."""
    right = bisect_left(good, (row.index, row.scan), key=lambda other: (other.index, other.scan))
    neighbours = good[max(0, right - 1) : right + 1]
    is_gap = row.before_px is None
    near_px = [other.before_px for other in neighbours if other.before_px is not None]
    if is_gap and not neighbours_agree(near_px):
        return row
    if not near_px:
        return noted(row, NO_NEIGHBOUR)
    cor_px = mean_px(near_px)
    if not is_valid(cor_px, n_cols):  # scans of different widths in one series
        off = f"mean of neighbours {off_detector(cor_px, n_cols)}, kept"
        return row if is_gap else noted(row, off)
    fixed = replace(
        row,
        after_px=cor_px,
        source="neighbours" if is_gap else "outlier",
        neighbours=tuple(other.scan for other in neighbours),
    )
    return noted(fixed, "no COR, neighbours agree") if is_gap else fixed


def confident_outlier(own: Fix, replaced: Fix, confidence: float) -> Fix:
    """Keep a confident outlier, and report what would have replaced it."""
    measured, series = format_cor(own.before_px), "no other COR"
    where = f"{measured}, outside of the limit of its series"
    is_replaced = replaced.source == "outlier"
    if is_replaced and own.before_px is not None and replaced.after_px is not None:
        away_px, series = abs(own.before_px - replaced.after_px), format_cor(replaced.after_px)
        where = f"{measured}, {away_px:.0f} px from its series"
        series += f" (from {' and '.join(replaced.neighbours)})" if replaced.neighbours else ""
    note = (
        f"Measured {where}{CONFIDENT_OUTLIER}{confidence:.2f}). The series gives {series}. Check."
    )
    return noted(replace(own, flagged=True, limit_px=replaced.limit_px), note)


def _filled(row: Fix, donors_px: list[float], member: Member) -> Fix:
    """Give a scan without a COR the mean of the donors, or note why it cannot have it."""
    why = member.no_cor_reason
    is_without_method = why == NOT_ASKED  # resolve_cor has to know
    if row.after_px is not None:
        bridged = row.before_px is None
        return noted(row, NOT_ASKED) if bridged and is_without_method else row
    no_cor = f"no COR ({why})" if why else "no COR"
    if not donors_px:
        return noted(row, f"{no_cor}, and none in the series to fill it from")
    cor_px = mean_px(donors_px)
    if not is_valid(cor_px, member.n_cols):
        return noted(row, f"{no_cor}, mean of the series {off_detector(cor_px, member.n_cols)}")
    row = replace(row, after_px=cor_px, source="series-mean")
    remark = no_cor if is_without_method else "no COR"
    return noted(row, f"{remark}, mean of {len(donors_px)} of the series")


def neighbours_agree(near_px: Sequence[float]) -> bool:
    """Tell whether the CORs on both sides of a gap fill it: they differ by at most 10 px."""
    return len(near_px) == 2 and abs(near_px[0] - near_px[1]) <= NEIGHBOURS_AGREE_PX + _ROUNDING_PX


def mean_px(values_px: Sequence[float]) -> float:
    """Return the mean, the same to the last bit in any order."""
    return math.fsum(values_px) / len(values_px)


def noted(row: Fix, note: str) -> Fix:
    """Return a row with one more remark."""
    return replace(row, reason=f"{row.reason}; {note}" if row.reason else note)
