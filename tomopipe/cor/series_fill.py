"""Fix one series with the best estimates (`fix_cor.fill: best`): outliers, then scans without COR.

Outliers are those of `tomopipe.cor.outliers`, estimates those of `tomopipe.cor.fill`; of the views
of a file with `fix_cor.over_time` both are by `tomopipe.cor.over_time`. An outlier is replaced only
by something better: its distance from the estimate must be three times the error of the estimate,
and no outlier beside it may agree with it, as two scans after a step do. What is not contradicted
so counts as a good scan of the series. Scans are compared with those of equal columns and pixels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tomopipe.cor.cor_value import is_valid, with_error
from tomopipe.cor.fill import LEAST_JUDGES, Estimates, Point
from tomopipe.cor.outliers import (
    JUDGED_BY_FEW,
    MAX_SURE_PX,
    NO_NEIGHBOUR,
    NOT_ASKED,
    NOT_SWEPT,
    Fix,
    Member,
    confident_outlier,
    fix_series,
    noted,
    start,
)
from tomopipe.cor.over_time import OverTime
from tomopipe.errors import grouped

if TYPE_CHECKING:
    from tomopipe.config import FixCorBlock  # slow to load

_AT_END = "at an end of the series, where the only scan of a step looks the same"
_TIMES_BETTER = 3.0  # the distance of an outlier from its replacement, in errors of this


def fix_best(
    members: Sequence[Member], around: Sequence[Point], options: "FixCorBlock"
) -> list[Fix]:
    """Replace and fill CORs of one series; rows by index, then by name.

    `members` are as for `tomopipe.cor.outliers.fix_series`, `around` the scans of the series before
    and after it.
    """
    alike = grouped((member.layout, member) for member in members)
    note = _layouts_note(members) if len(alike) > 1 else ""
    rows: list[Fix] = []
    for group in alike.values():
        for row in _Alike(group, around, options).rows():
            is_noted = note and (row.flagged or row.before_px is None)
            rows.append(noted(row, note) if is_noted else row)
    return sorted(rows, key=lambda row: (row.index, row.scan))


def point_of(member: Member, order: int = 0) -> Point:
    """Return a scan by its COR before fixing."""
    own = start(member)
    return Point(
        scan=member.scan,
        index=member.index,
        order=order,
        position=member.position,
        length=member.length,
        layout=member.layout,
        height=member.height,
        cor_px=own.before_px,
        is_trusted=own.source == "manual" or member.is_trusted,
    )


def layouts_of(layouts: Sequence[tuple[int, str]]) -> str:
    """Describe the different columns and pixels of scans; "" if all are alike."""
    counts = Counter(layouts)
    sizes = {pixel_um for _, pixel_um in counts}
    lines = [
        f"{n_cols} columns" + f" of {pixel_um or 'unknown'} um" * (len(sizes) > 1) + f" ({n})"
        for (n_cols, pixel_um), n in counts.items()
    ]
    return ", ".join(lines) if len(counts) > 1 else ""


def _layouts_note(members: Sequence[Member]) -> str:
    kinds = layouts_of([member.layout for member in members])
    return f"the series has scans of {kinds}: only equal ones are compared"


class _Alike:
    """Scans of one series with equal columns and pixels."""

    def __init__(
        self, members: Sequence[Member], around: Sequence[Point], options: "FixCorBlock"
    ) -> None:
        self._options = options
        self._members: Mapping[str, Member] = {member.scan: member for member in members}
        self._file = members[0].file
        self._around = [p for p in around if p.layout == members[0].layout]
        model = self._estimates([point_of(member) for member in members if member.selected])
        self._rules = fix_series(
            members,
            max_delta_px=options.max_delta_px,
            protect_manual=options.protect_manual,
            protect_confident=options.protect_confident,
            model=(model.at, self._name(model)) if isinstance(model, OverTime) else None,
        )
        donors = [point_of(member) for member in members if not member.selected]
        self._donors = [replace(p, is_good=False, is_trusted=False) for p in donors]

    def rows(self) -> list[Fix]:
        """Return the rows of the table."""
        suspects = {row.scan for row in self._rules if self._is_suspect(row)}
        points = [point_of(self._members[row.scan]) for row in self._rules]
        judging = [replace(p, is_good=p.scan not in suspects) for p in points]
        judged = self._estimates(judging)
        fixed = {
            row.scan: self._checked(row, judged) if row.scan in suspects else row
            for row in self._rules
        }
        good = [self._after(point, fixed[point.scan]) for point in points]
        usable = self._estimates([*good, *self._donors])
        return [
            self._filled(row, usable) if row.before_px is None else row for row in fixed.values()
        ]

    def _estimates(self, points: Sequence[Point]) -> Estimates | OverTime:
        """Return what estimates CORs from those of the series: views of one file have a model."""
        if self._file:
            return OverTime(points, self._options.over_time)
        return Estimates([*points, *self._around])

    def _name(self, model: OverTime) -> str:
        return f"the {model.name} of {self._file}"

    def _is_suspect(self, row: Fix) -> bool:
        """Tell whether the rules replace a COR unless its confidence protects it."""
        is_manual = start(self._members[row.scan]).source == "manual"
        return row.flagged and not (is_manual and self._options.protect_manual)

    def _after(self, point: Point, row: Fix) -> Point:
        """Return a scan as it serves to fill others: not if the others contradict it."""
        if row.source == "outlier":  # as by the rules, its replacement counts in the mean
            return replace(point, cor_px=row.after_px, is_good=False, is_trusted=False)
        is_kept = not (row.is_confident_outlier and _is_contradicted(row))
        if not self._is_suspect(row) or (row.fill_px is not None and is_kept):
            return point
        cor_px = None if row.is_confident_outlier else row.after_px
        return replace(point, cor_px=cor_px, is_good=False, is_trusted=False)

    def _checked(self, row: Fix, estimates: Estimates | OverTime) -> Fix:
        """Replace a suspect; keep it if it is confident, or if the estimate is no better."""
        member = self._members[row.scan]
        fill = estimates.fill(point_of(member), "outlier")
        if fill is None or not is_valid(fill.cor_px, member.n_cols):
            return row
        own = replace(start(member), flagged=True, limit_px=row.limit_px)
        own = replace(own, fill_px=fill.cor_px, fill_error_px=fill.error_px)
        reason = row.reason.removesuffix(f"; {NO_NEIGHBOUR}")
        used = replace(own, after_px=fill.cor_px, source="outlier", reason=reason)
        if row.is_confident_outlier:
            return confident_outlier(own, used, member.confidence)
        if _is_contradicted(own):
            if not (twin := self._twin(row)):
                used = replace(used, neighbours=fill.scans)
                return noted(used, _AT_END) if self._is_at_end(row) else used
            return noted(replace(own, reason=reason), f"kept: {twin} beside it agrees")
        text = f"kept: {with_error(fill.cor_px, fill.error_px)} of its series is no better"
        return noted(replace(own, reason=reason), text)

    def _is_at_end(self, row: Fix) -> bool:
        """Tell whether all scans that are no suspects are on one side, with no model over time."""
        good = [r for r in self._rules if r.before_px is not None and not self._is_suspect(r)]
        return not self._file and len({each.index > row.index for each in good}) < 2

    def _twin(self, row: Fix) -> str:
        """Return the scan beside a suspect whose COR is also flagged, and the same; "" if none."""
        rows = [each for each in self._rules if each.before_px is not None]
        at = rows.index(row)
        for other in (*rows[max(0, at - 1) : at], *rows[at + 1 : at + 2]):
            away_px = (other.before_px or 0.0) - (row.before_px or 0.0)
            if other.flagged and abs(away_px) <= MAX_SURE_PX:
                return other.scan
        return ""

    def _filled(self, row: Fix, estimates: Estimates | OverTime) -> Fix:
        """Give a scan without COR the best estimate, or say why it stays without."""
        member, limit_px = self._members[row.scan], self._options.max_fill_error_px
        fill = estimates.fill(point_of(member))
        if fill is None or not is_valid(fill.cor_px, member.n_cols):
            return row
        own, why = start(member), member.no_cor_reason
        no_cor = f"no COR ({why})" if why == NOT_ASKED else "no COR"
        no_cor = f"{why};" if why.startswith(NOT_SWEPT) else f"{no_cor},"
        own = replace(own, limit_px=row.limit_px)
        own = replace(own, fill_px=fill.cor_px, fill_error_px=fill.error_px)
        few = fill.n_judges < LEAST_JUDGES
        if limit_px is not None and (few or (fill.error_px or 0.0) > limit_px):
            estimate = with_error(fill.cor_px, fill.error_px)
            above = f"above fix_cor.max_fill_error_px ({limit_px:g})"
            reason = f"{no_cor} not filled: {estimate} of its series is {above}"
            return noted(own, f"{reason}, {JUDGED_BY_FEW}" if few else reason)
        texts = {
            "neighbours": "neighbours agree",
            "series-mean": f"mean of {fill.n_mean} of the series",
            "line": "on the line of its series",
            "place": "from the same place before and after",
            "time": f"from {self._name(estimates)}" if isinstance(estimates, OverTime) else "",
        }
        own = replace(own, after_px=fill.cor_px, source=fill.source, neighbours=fill.scans)
        own = noted(own, f"{no_cor} {texts[fill.source]}")
        return noted(own, JUDGED_BY_FEW) if few else own


def _is_contradicted(row: Fix) -> bool:
    """Tell whether the estimate is so much better than the COR before fixing."""
    if row.before_px is None or row.fill_px is None or row.fill_error_px is None:
        return False
    return abs(row.before_px - row.fill_px) >= _TIMES_BETTER * row.fill_error_px
