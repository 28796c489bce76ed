"""What the files of a campaign say of a scan: its COR, and its state without doubts.

It follows from the present campaign table and the results of the last run, so that a person's
decision counts before the next run. `sentences` adds the doubts and the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Prediction
from tomopipe.campaign.state.signs import State, source_named
from tomopipe.cor.cor_value import NO_TEXT, CorText, format_cor, same_cor, with_error
from tomopipe.cor.outliers import FILLS, Fix
from tomopipe.workflow_steps import SEARCH_STEPS

STILL_WRITTEN = "still written"
#: End of the reason of a scan that could not be read for a system error: it will be retried.
LOOK_AGAIN = "; the next run looks again"
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


def is_looked_at_again(rows: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether a file of the inventory will be read again: incomplete, or not readable."""
    texts = [row["reason"] for row in rows.values()]
    return any(text.startswith(STILL_WRITTEN) or text.endswith(LOOK_AGAIN) for text in texts)


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
    off_series: str = ""  # how far its COR is off those of its series, as `off_line` words it
    failures: tuple[JobStatus, ...] = ()  # those that still count: the result is missing
    volume: Path | None = None  # its volume, if there is one
    # from what results were made that the next run makes again
    volume_of: str = ""
    prediction_of: str = ""

    @cached_property
    def n_cols(self) -> int | None:
        """Width of the detector; None if the inventory does not have it."""
        cell = (self.row or {}).get("n_cols", "")
        return int(cell) if cell.isdecimal() else None

    @cached_property
    def manual_px(self) -> float | None:
        """The COR of the campaign table; None if it is missing or off the detector."""
        return self.manual.px_on(self.n_cols)

    @cached_property
    def is_edited(self) -> bool:
        """Whether a COR was typed or removed after the results were made."""
        if self.manual_px is None:
            return self.source == "manual" and not (self.fix and self.fix.is_by_file)
        if self.source == "outlier" and self.fix and not self.protect_manual:
            return not same_cor(self.fix.before_px, self.manual_px)
        return self.source != "manual" or not same_cor(self.cor_px, self.manual_px)

    @cached_property
    def shown(self) -> tuple[float | None, str]:
        """The COR that people are shown, and its source: resolved, else fixed, set or predicted."""
        if self.cor_px is not None:
            return self.cor_px, self.source
        if self.fix is not None:
            return self.fix.after_px, self.fix.source
        if self.plain_state in (*NOT_SELECTED, State.UNRESOLVED, State.FAILED):
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
    def plain_state(self) -> State:
        """The state without doubts."""
        if state := not_selected(self.select, self.row):
            return state
        if not {job.step for job in self.failures} <= set(SEARCH_STEPS):
            return State.FAILED
        if self.is_edited and self.manual_px is not None:
            return State.MANUAL
        if self.cor_px is not None and not self.is_edited:
            state = source_named(self.source).state
            if self.is_unswept and self.source in FILLS:
                state = State.UNSWEPT
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
        if self.fix and self.cor_px is None:  # the run ended before cor.json
            of_fix = State.UNSWEPT if self.is_unswept else source_named(self.fix.source).state
            if of_fix is not State.OK:
                return of_fix
        return State.OK if self.prediction else State.PENDING

    @property
    def is_unswept(self) -> bool:
        """Whether its COR is filled as it has no sweep, by `try_recon.every`."""
        return self.fix is not None and self.fix.is_unswept

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
    def unused_manual(self) -> str:
        """Why the COR of the campaign table is not used; empty if it is used."""
        return self.manual.fault(self.n_cols)

    @property
    def is_confident_outlier(self) -> bool:
        """Whether the COR is a confident outlier of its series that was kept."""
        return self.fix is not None and self.fix.is_confident_outlier
