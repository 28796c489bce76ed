"""All that is said of the state of a scan: doubts, reasons, pending changes, alerts.

Report, review page and terminal take their words from here, and the words of states from `signs`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tomopipe.campaign.results import Prediction
from tomopipe.campaign.state.facts import NOT_SELECTED, OWN_COR, TO_REVIEW, ScanFacts, not_selected
from tomopipe.campaign.state.signs import SIGNS, State
from tomopipe.cor.cor_value import format_confidence, format_cor, same_cor
from tomopipe.cor.outliers import FILLS, FROM_ONE, NO_SINGLE_COR, NOT_ASKED, SLICES_MIXED

#: A confidence above the limit by less than this is doubtful.
_BARELY = 0.1
#: Confident methods further apart than this are doubtful, in pixels.
_DISAGREE_PX = 2.0
#: A prediction of this confidence is hardly ever wrong.
_CONFIDENT = 0.9
_FAR_PX = 1.0  # correct predictions are closer to the truth
IS_HALF = "half acquisition: slices twice as wide as the detector"


def why_not_selected(select: str, row: Mapping[str, str] | None) -> str:
    """Return why no job runs for a scan, by table and inventory; "" if it is selected."""
    state = not_selected(select, row)
    reason = row.get("reason", "") if row and state is State.SKIPPED else ""
    return reason or (SIGNS[state].meaning if state else "")


def but_selected(reason: str) -> str:
    """Say that somebody selected a scan although there is a reason to skip it."""
    from tomopipe.scans.metadata import IN_ORDER  # NumPy

    return f"selected in scans.tsv: {reason.removesuffix(f'; {IN_ORDER}')}"


@dataclass(frozen=True, kw_only=True)
class ScanState(ScanFacts):
    """The state of a scan, and why."""

    warnings: tuple[str, ...] = ()  # of its file, sweep, prediction and volume

    @cached_property
    def state(self) -> State:
        """The state of the scan."""
        state = self.plain_state
        is_doubtful = self.doubts if state is State.OK else self.doubtful_fill
        return State.DOUBTFUL if is_doubtful else state

    @property
    def selected_although(self) -> str:
        """Why the scan would be skipped if nobody had selected it; or ""."""
        reason = self.row["reason"] if self.row else ""
        return but_selected(reason) if reason and self.state not in NOT_SELECTED else ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons why an accepted prediction is doubtful."""
        result = (self.unused_manual, self.kept_outlier, *self.own_doubts)
        return tuple(text for text in result if text)

    @property
    def own_doubts(self) -> tuple[str, ...]:
        """Doubts of a COR that is no outlier, worst first; some may be ""."""
        return self.doubtful_fill, self.off_series, self.doubtful_prediction

    @property
    def doubtful_fill(self) -> str:
        """The doubt of a filled COR: a large error, or that it is of one other scan; else empty."""
        is_filled = self.plain_state in (State.FILLED, State.UNSWEPT)
        if self.fix is None or not is_filled or self.shown[1] not in FILLS:
            return ""
        is_one = FROM_ONE in self.fix.reason and self.shown[1] == "series-mean"
        return self.fix.fill_doubt or ("filled from a single other scan" if is_one else "")

    @property
    def why(self) -> str:
        """The text shown with the state: the doubts of a doubtful scan, else the reason."""
        return "; ".join(self.doubts) if self.state is State.DOUBTFUL else self.reason

    @property
    def for_next_run(self) -> tuple[str, ...]:
        """Pending changes: an edited COR, an outdated prediction or volume."""
        if self.state in NOT_SELECTED:
            return ()
        results = []
        if self.decided and self.is_edited:
            edit = format_cor(self.manual_px) or "removal of the COR"
            results.append(f"{edit} by hand, applied by the next run")
        if self.prediction_of:
            results.append(f"prediction of {self.prediction_of}, made again by the next run")
        return tuple(filter(None, (*results, self.stale_volume)))

    @property
    def stale_volume(self) -> str:
        """What the volume was made from that the next run makes again; "" if it is up to date."""
        return f"volume of {self.volume_of}, made again by the next run" if self.volume_of else ""

    @property
    def warnings_beside(self) -> tuple[str, ...]:
        """Warnings of the prediction that are not part of `why`."""
        result = self.prediction.warnings if self.prediction else ()
        return tuple(text for text in result if text not in self.why)

    @property
    def ignored_manual(self) -> tuple[str, ...]:
        """The COR of the campaign table that is not used, if `why` does not name it."""
        fault = self.unused_manual
        return (f"manual COR {fault}, ignored",) if fault and fault not in self.why else ()

    @property
    def kept_outlier(self) -> str:
        """Why a COR is an outlier of its series that was not replaced; empty if it is none."""
        fix = self.fix
        if fix is None or not fix.flagged or fix.source == "outlier":
            return ""
        hint = "" if self.is_confident_outlier else self.of_another_series
        return "; ".join(filter(None, (fix.reason or "flagged", hint)))

    @property
    def of_another_series(self) -> str:
        """The hint that a confident outlier may belong to another series; empty for others."""
        is_outlier = self.fix is not None and self.fix.flagged
        if not is_outlier or self._confidence_before < _CONFIDENT:
            return ""
        return "not one series? (inventory.series_pattern)"

    @property
    def _confidence_before(self) -> float:
        """The confidence of the COR before its series was fixed; -1 if it was not predicted."""
        fix, prediction = self.fix, self.prediction
        if fix is None or prediction is None:
            return -1.0
        is_predicted = same_cor(fix.before_px, prediction.cor_px)
        return prediction.confidence or 0.0 if is_predicted else -1.0

    @property
    def doubtful_prediction(self) -> str:
        """Why a prediction is doubtful; empty if it is not."""
        prediction = self.prediction
        if prediction is None:
            return ""
        if prediction.cor_px is None:
            return not_accepted(prediction)
        return doubt_of(prediction, self.min_confidence)

    @property
    def reason(self) -> str:
        """Why the scan is in its state, in one line; may be ""."""
        state, fix, prediction = self.state, self.fix, self.prediction
        if state is State.SKIPPED:
            return (self.row or {}).get("reason", "")
        parts: list[str] = []
        if fix is not None and self.source == "default" and fix.after_px is not None:
            fix = None  # default_px takes precedence over the series
        if fix is not None and state is State.MANUAL and fix.source != "manual":
            fix = None  # it was fixed before the COR was set by hand
        of_fix = fix.reason if fix is not None else ""
        if prediction is not None and prediction.cor_px is None and state is not State.MANUAL:
            # The cause comes first, and once: the table of fix_cor may have it, too.
            if prediction.reason != NOT_ASKED or NOT_ASKED not in of_fix:
                parts.append(not_accepted(prediction))
            of_fix = of_fix.replace(f" (prediction: {prediction.reason})", "")
        parts += [of_fix, self._replaced]
        if fix is not None and fix.neighbours:
            how = "mean of" if len(fix.neighbours) > 1 else "that of"
            parts.append(f"{how} {' and '.join(fix.neighbours)}")
        if state is State.FIXED:
            parts.append(self.of_another_series)
        parts.append(self._far_by_hand)
        return "; ".join(dict.fromkeys(filter(None, [*self._errors(parts), *parts])))

    @property
    def to_do(self) -> str:
        """What to do about the state of the scan; "" if nothing."""
        return self.own_advice or TO_DO.get(self.state, "")

    @property
    def own_advice(self) -> str:
        """What to do about a scan that moved, which the advice on its state does not fit; or ""."""
        prediction = self.prediction
        moved = prediction is not None and (
            NO_SINGLE_COR in prediction.reason
            or any(SLICES_MIXED in doubt for doubt in prediction.doubts)
        )
        return _IF_MOVED if moved and self.state in TO_REVIEW else ""

    @property
    def is_unchecked(self) -> bool:
        """Whether its COR was set by hand and there is no prediction to compare it with."""
        return self.state is State.MANUAL and self.prediction is None

    def _errors(self, parts: Iterable[str]) -> list[str]:
        """Return the failed steps with their errors, each error once, also if it is in `parts`."""
        text, lines = "; ".join(parts), []
        for job in self.failures:
            lines.append(f"{job.step}{' failed' if job.error in text else f': {job.error}'}")
            text += job.error
        return lines

    @property
    def _replaced(self) -> str:
        """Which COR was replaced as an outlier, and its confidence if it was predicted."""
        if self.state is not State.FIXED or self.fix is None or self.fix.before_px is None:
            return ""
        before, confidence = format_cor(self.fix.before_px), self._confidence_before
        if confidence < 0:
            return f"{before} by hand, replaced"
        return f"predicted {before} (confidence {confidence:.2f}), replaced"

    @property
    def _far_by_hand(self) -> str:
        """The distance of a COR set by hand from a confident prediction, if it is far."""
        cor_px = self.manual_px if self.manual_px is not None else self.cor_px
        if self.state is not State.MANUAL or self.prediction is None or cor_px is None:
            return ""
        return far_from(self.prediction, cor_px, self.min_confidence)


def far_from(prediction: Prediction, cor_px: float, min_confidence: float) -> str:
    """Return the distance of a COR from a confident prediction; "" if it is near, or none is."""
    confidence = prediction.confidence or 0.0
    off_px = 0.0 if prediction.cor_px is None else cor_px - prediction.cor_px
    if confidence < min_confidence or abs(off_px) <= _FAR_PX:
        return ""
    return f"{off_px:+.2f} px from the prediction, of confidence {confidence:.2f}"


def doubt_of(prediction: Prediction, min_confidence: float) -> str:
    """Return why an accepted prediction is doubtful; "" if it is not."""
    if prediction.doubts:
        return "; ".join(prediction.doubts)
    confidence = prediction.confidence
    if confidence is not None and confidence < min(min_confidence + _BARELY, 1.0):
        barely = format_confidence(confidence, min_confidence)
        return f"accepted with confidence {barely}, limit {min_confidence:g}"
    best = {
        c.method: c.best_cor_px
        for c in prediction.curves
        if c.best_cor_px is not None and (c.confidence or 0.0) >= min_confidence
    }
    if best and max(best.values()) - min(best.values()) > _DISAGREE_PX:
        listed = ", ".join(f"{name} {px:.2f}" for name, px in sorted(best.items()))
        return f"methods disagree: {listed}"
    return ""


def not_accepted(prediction: Prediction) -> str:
    """Return why a prediction did not become a COR, and the confidence of its method."""
    if prediction.reason == NOT_ASKED:
        return NOT_ASKED
    if prediction.verdict == "failed":
        return ": ".join(filter(None, ("prediction failed", prediction.reason)))
    # `predict_cor` names the method, which is no part of the cause
    cause = prediction.reason.removeprefix(f"{prediction.method}: ")
    details = [shown_verdict(prediction)]
    if prediction.best_cor_px is not None:
        details.append(f"best {prediction.best_cor_px:.2f}")
    shown, of_method = (
        "" if value is None else f"{value:.2f}"
        for value in (prediction.confidence, prediction.of_method)
    )
    if shown:
        details.append(f"confidence {shown}")
    if of_method not in ("", shown):
        details.append(f"that of {prediction.method or 'the method'} alone {of_method}")
    text = f"{cause}; not accepted" if cause else "prediction not accepted"
    return f"{text} ({', '.join(details)})"


def shown_verdict(prediction: Prediction) -> str:
    """Return the verdict as shown: a verdict "flat" could be taken for a flat field."""
    return "no clear COR" if prediction.verdict == "flat" else prediction.verdict or "unknown"


def off_line(off_px: float, spread_px: float) -> str:
    """Return how far a COR is off the others of its series, which need not be on a line."""
    return f"{off_px:+.2f} px off its series (scatter {spread_px:.2f} px)"


def earlier_options(why: str) -> str:
    """Return from what a stale result was made: `why` is the reason of its next job."""
    return f"earlier options or files ({why})"


#: What to do about a scan of each state that needs it.
TO_DO: Mapping[State, str] = {
    State.UNRESOLVED: "Set the COR at which the slices are sharp.",
    State.DOUBTFUL: "Compare the slices; accept this COR or set another.",
    State.FIXED: "Compare the slices at both CORs; accept the sharper one.",
    State.FILLED: "Not measured: look at the slices; accept this COR or set another.",
    State.FAILED: "Read the log, remove the cause, run again; tomopipe plan says if retry is due.",
}

_IF_MOVED = (
    "Measure it again, use the part before or after the movement if it has 180 degrees "
    "(input.skip_projections), or leave the scan out (select: no)."
)

# ---- alerts of the report --------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of alert: `lines` returns the line (or lines) for a scan, or ""."""

    title: str
    level: str
    advice: str
    lines: Callable[[ScanState], str | tuple[str, ...]]
    once: bool = True  # only for scans not listed under a worse kind
    order: Callable[[ScanState], float] | None = None
    rare_first: bool = False  # so that rare lines are not lost among common ones


def _reason(state: State, otherwise: str) -> Callable[[ScanState], str]:
    return lambda scan: (scan.reason or otherwise) if scan.state is state else ""


def warnings_of(scan: ScanState) -> tuple[str, ...]:
    """Return the warnings of a scan, each once; none if it is not selected."""
    return () if scan.state in NOT_SELECTED else tuple(dict.fromkeys(scan.warnings))


def _outdated_volume(scan: ScanState) -> str:
    """Describe a volume that runs do not make any more."""
    source = {State.SKIPPED: "file", State.UNRESOLVED: "COR"}.get(scan.state)
    if source is None or scan.volume is None:
        return ""
    return f"{scan.volume.name} was made from an earlier {source}: {scan.reason}"


#: The worst first.
KINDS = (
    Kind(
        "Outdated volumes",
        "bad",
        "The file or the COR has changed: correct it, or remove the volume, its stack and sidecar.",
        _outdated_volume,
        once=False,
    ),
    Kind(
        "Failed",
        "bad",
        "Read the log below, remove the cause, run again; tomopipe plan names who needs retry.",
        _reason(State.FAILED, "no reason given"),
    ),
    Kind(
        "No COR",
        "bad",
        "Set a COR in the campaign table, or resolve_cor: default_px in the config.",
        _reason(State.UNRESOLVED, "no COR found"),
    ),
    Kind(
        "Ignored values of the campaign table",
        "bad",
        "Correct the cell: a column of the detector, counted from 0, with a decimal point.",
        lambda scan: scan.unused_manual,
        once=False,
    ),
    Kind(
        "Pending changes",
        "look",
        "Type tomopipe run.",
        lambda scan: scan.for_next_run,
        once=False,
    ),
    Kind(
        "Filled",
        "look",
        "These CORs are not measured: check the volumes.",
        lambda scan: _reason(State.FILLED, f"from {scan.source}")(scan),
    ),
    Kind(
        "Outliers",
        "look",
        "Farther from the median than the limit.",
        lambda scan: (
            scan.kept_outlier if scan.state in OWN_COR else _reason(State.FIXED, "replaced")(scan)
        ),
    ),
    Kind(
        "Doubtful predictions",
        "look",
        "Look at the try slices; set the COR by hand if it is wrong.",
        lambda scan: "; ".join(filter(None, scan.own_doubts * (scan.state is State.DOUBTFUL))),
        order=lambda scan: (scan.prediction and scan.prediction.confidence) or 0.0,
    ),
    Kind("Warnings", "info", "Processing continued.", warnings_of, once=False, rare_first=True),
)
