"""The state of a scan, and its reason; decided nowhere else.

A state follows from the present campaign table and the results of the last run, so that a person's
decision counts before the next run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tomopipe.campaign.failures import STEPS
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Prediction
from tomopipe.campaign.signs import SIGNS, State, state_of
from tomopipe.cor.cor_value import (
    NO_TEXT,
    CorText,
    format_confidence,
    format_cor,
    same_cor,
    with_error,
)
from tomopipe.cor.outliers import FILLS, FROM_ONE, NOT_ASKED, Fix

STILL_WRITTEN = "still written"
#: End of the reason of a scan that could not be read for a system error: it will be retried.
LOOK_AGAIN = "; the next run looks again"
#: A confidence above the limit by less than this is doubtful.
_BARELY = 0.1
#: Confident methods further apart than this are doubtful, in pixels.
_DISAGREE_PX = 2.0


def is_looked_at_again(rows: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether a file of the inventory will be read again: incomplete, or not readable."""
    texts = [row["reason"] for row in rows.values()]
    return any(text.startswith(STILL_WRITTEN) or text.endswith(LOOK_AGAIN) for text in texts)


#: No job runs for scans in these states.
NOT_SELECTED = (State.UNSELECTED, State.SKIPPED)
#: The COR is the scan's own, and nothing speaks against it.
ACCEPTED = (State.OK, State.MANUAL)
#: The COR may be the scan's own, predicted or set by hand.
OWN_COR = (*ACCEPTED, State.DOUBTFUL)
#: A person has to look at the COR.
TO_REVIEW = (State.UNRESOLVED, State.DOUBTFUL, State.FIXED, State.FILLED)
#: A person or the inventory has decided; nothing is asked.
DECIDED = (State.MANUAL, *NOT_SELECTED)
#: A prediction of this confidence is hardly ever wrong.
_CONFIDENT = 0.9
_FAR_PX = 1.0  # correct predictions are closer to the truth


def not_selected(select: str, row: Mapping[str, str] | None) -> State | None:
    """Return why no job runs for a scan: UNSELECTED or SKIPPED; None if it is selected.

    `select`, the cell of the campaign table: yes overrides all but a file whose shape cannot be
    read or that is still growing. `row` is the scan's of the inventory; None if there is none yet.
    """
    if select == "no":
        return State.UNSELECTED
    if row is None or row["keep"] == "true":
        return None
    usable = row["n_cols"] != "" and not row.get("reason", "").startswith(STILL_WRITTEN)
    return None if select == "yes" and usable else State.SKIPPED


def why_not_selected(select: str, row: Mapping[str, str] | None) -> str:
    """Return why no job runs for a scan, by table and inventory; "" if it is selected."""
    state = not_selected(select, row)
    reason = row.get("reason", "") if row and state is State.SKIPPED else ""
    return reason or (SIGNS[state].meaning if state else "")


@dataclass(frozen=True, kw_only=True)
class ScanFacts:
    """Content of a campaign's files about one scan; CORs in unbinned pixels."""

    # cells of the campaign table
    select: str = "auto"
    manual: CorText = NO_TEXT
    row: Mapping[str, str] | None = None  # its row of the inventory
    # its entry in cor.json
    cor_px: float | None = None
    source: str = ""
    decided: bool = False  # whether cor.json exists
    has_default: bool = False  # whether the config has a default COR
    min_confidence: float  # confidence from which a prediction is accepted, 0 to 1
    protect_manual: bool  # whether a COR set by hand is never replaced
    # results of fix_cor and predict_cor
    fix: Fix | None = None
    prediction: Prediction | None = None
    off_series: str = ""  # how far its COR is off those of its series, if it is
    failures: tuple[JobStatus, ...] = ()  # those that still count: the result is missing
    volume: Path | None = None  # its volume, if there is one
    volume_of: str = ""  # from what a volume was made that the next run makes again

    @property
    def n_cols(self) -> int | None:
        """Width of the detector; None if the inventory does not have it."""
        cell = (self.row or {}).get("n_cols", "")
        return int(cell) if cell.isdecimal() else None

    @property
    def manual_px(self) -> float | None:
        """The COR of the campaign table; None if it is missing or off the detector."""
        return self.manual.px_on(self.n_cols)

    @property
    def is_edited(self) -> bool:
        """Whether a COR was typed or removed after the results were made."""
        if self.manual_px is None:
            return self.source == "manual" and not (self.fix and self.fix.is_by_file)
        if self.source == "outlier" and self.fix and not self.protect_manual:
            return not same_cor(self.fix.before_px, self.manual_px)
        return self.source != "manual" or not same_cor(self.cor_px, self.manual_px)

    @property
    def shown(self) -> tuple[float | None, str]:
        """The COR that people are shown, and its source: resolved, else fixed, set or predicted."""
        if self.cor_px is not None:
            return self.cor_px, self.source
        if self.fix is not None:
            return self.fix.after_px, self.fix.source
        if self.state in (*NOT_SELECTED, State.UNRESOLVED, State.FAILED):
            return None, ""
        if self.manual_px is not None:
            return self.manual_px, "manual"
        if self.prediction is None or self.prediction.cor_px is None:
            return None, ""
        return self.prediction.cor_px, "ai" if self.prediction.method == "ai" else "auto"

    @property
    def best_px(self) -> float | None:
        """The COR that people are shown, else that of its series, else the best estimate."""
        cor_px = self.shown[0]
        if cor_px is None and self.fix is not None:
            cor_px = self.fix.fill_px
        return self.prediction.best_cor_px if cor_px is None and self.prediction else cor_px

    @cached_property
    def state(self) -> State:
        """The state of the scan."""
        state = self._state
        is_doubtful = self.doubts if state is State.OK else self.doubtful_fill
        return State.DOUBTFUL if is_doubtful else state

    @property
    def _state(self) -> State:
        """The state, without thresholds."""
        if state := not_selected(self.select, self.row):
            return state
        if not {job.step for job in self.failures} <= set(STEPS):
            return State.FAILED
        if self.is_edited and self.manual_px is not None:
            return State.MANUAL
        if self.cor_px is not None and not self.is_edited:
            state = state_of(self.source)
            return State.FAILED if state is State.OK and self.failures else state  # of before
        return self._state_without_cor

    @property
    def _state_without_cor(self) -> State:
        # With `on_missing: block` there is no cor.json; the tables of fix_cor show it.
        without = self.cor_px is None and self.fix is not None and self.fix.after_px is None
        without = without and (self.decided or not self.has_default)
        if self.failures or (without and self.prediction and self.prediction.verdict == "failed"):
            return State.FAILED
        if without:
            return State.UNRESOLVED
        of_fix = state_of(self.fix.source) if self.fix and self.cor_px is None else State.OK
        if of_fix is not State.OK:
            return of_fix  # the run ended before cor.json
        return State.OK if self.prediction else State.PENDING

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
        if self.fix is None or self._state is not State.FILLED or self.shown[1] not in FILLS:
            return ""
        is_one = FROM_ONE in self.fix.reason and self.shown[1] == "series-mean"
        return self.fix.fill_doubt or ("filled from a single other scan" if is_one else "")

    @property
    def error_px(self) -> float | None:
        """The error of the COR that people are shown, if it is filled and the error is known."""
        is_fixed = self.fix is not None and self.shown == (self.fix.after_px, self.fix.source)
        return self.fix.error_px if self.fix is not None and is_fixed else None

    @property
    def shown_text(self) -> str:
        """The COR that people are shown, in pixels, with its error if it is filled; "" if none."""
        cor_px = self.shown[0]
        if cor_px is None or self.error_px is None:
            return format_cor(cor_px)
        return with_error(cor_px, self.error_px).removesuffix(" px")

    @property
    def why(self) -> str:
        """The text shown with the state: the doubts of a doubtful scan, else the reason."""
        return "; ".join(self.doubts) if self.state is State.DOUBTFUL else self.reason

    @property
    def for_next_run(self) -> tuple[str, ...]:
        """Pending changes: an edited COR, an outdated volume."""
        if self.state in NOT_SELECTED:
            return ()
        results = []
        if self.decided and self.is_edited:
            edit = format_cor(self.manual_px) or "removal of the COR"
            results.append(f"{edit} by hand, applied by the next run")
        if self.volume_of:
            results.append(f"volume of {self.volume_of}, made again by the next run")
        return tuple(results)

    @property
    def warnings_beside(self) -> tuple[str, ...]:
        """Warnings of the prediction that are not part of `why`."""
        result = self.prediction.warnings if self.prediction else ()
        return tuple(text for text in result if text not in self.why)

    @property
    def unused_manual(self) -> str:
        """Why the COR of the campaign table is not used; empty if it is used."""
        return self.manual.fault(self.n_cols)

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
    def is_confident_outlier(self) -> bool:
        """Whether the COR is a confident outlier of its series that was kept."""
        return self.fix is not None and self.fix.is_confident_outlier

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
        if of_fix:
            parts.append(of_fix)
        if fix is not None and fix.neighbours:
            parts.append(f"mean of {' and '.join(fix.neighbours)}")
        if state is State.FIXED:
            parts.append(self.of_another_series)
        parts.append(self._far_by_hand)
        if state is State.MANUAL and prediction is None:
            parts.append("not checked")
        why = "; ".join(dict.fromkeys(filter(None, [*self._errors(parts), *parts])))
        return ": ".join(filter(None, (self._replaced, why)))

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
        prediction = self.prediction
        if self.state is not State.MANUAL or prediction is None or prediction.cor_px is None:
            return ""
        confidence = prediction.confidence or 0.0
        cor_px = self.manual_px if self.manual_px is not None else self.cor_px
        off_px = 0.0 if cor_px is None else cor_px - prediction.cor_px
        if confidence < self.min_confidence or abs(off_px) <= _FAR_PX:
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
    """Return why a prediction did not become a COR."""
    if prediction.reason == NOT_ASKED:
        return NOT_ASKED
    if prediction.verdict == "failed":
        return ": ".join(filter(None, ("prediction failed", prediction.reason)))
    details = [prediction.shown_verdict]
    if prediction.best_cor_px is not None:
        details.append(f"best {prediction.best_cor_px:.2f}")
    if prediction.confidence is not None:
        details.append(f"confidence {prediction.confidence:.2f}")
    text = f"{prediction.reason}; not accepted" if prediction.reason else "prediction not accepted"
    return f"{text} ({', '.join(details)})"
