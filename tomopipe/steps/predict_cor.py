"""Step predict_cor: find the COR of one scan by several methods; accept it, or give a reason."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.results import (
    ROLL,
    UNCORRECTED_ROLL,
    VOLUME_ROWS,
    center_by_hand,
    read_json,
    read_prediction,
)
from tomopipe.config import PredictCorBlock
from tomopipe.cor.collected_rows import Rows, read_rows
from tomopipe.cor.cor_value import format_cor, shown
from tomopipe.cor.illuminated_rows import warn_of_dark_rows
from tomopipe.cor.outliers import NOT_ASKED
from tomopipe.errors import (
    ScanError,
    TomopipeError,
    is_of_the_system,
    library_error,
    reason_of,
    unexpected,
)
from tomopipe.geometry import bin_cor, unbin_cor
from tomopipe.prep.bad_pixels import (
    BadFrames,
    find_dim_frames,
    find_empty_frames,
    reasons_to_review,
    too_many,
    warnings_of,
)
from tomopipe.prep.half_acquisition import warn_of_one_side, warn_of_width
from tomopipe.prep.normalise import (
    is_far_too_bright,
    warn_of_bright_pixels,
    warn_of_flats,
    warn_of_line_integrals,
    warn_of_references,
    warn_of_sample_in_flats,
)
from tomopipe.recon.angular_sampling import is_full_rotation
from tomopipe.steps import not_read, stated
from tomopipe.storage.atomic import remove_stale, take_away, write_json, write_text
from tomopipe.storage.json_files import json_or, part

if TYPE_CHECKING:
    from tomopipe.cor.answer import Answer
    from tomopipe.cor.curves import Curves
    from tomopipe.cor.prepared import Prepared
    from tomopipe.cor.roll import UsedRows


_ROLL_PX = ("roll_px_per_100_rows", "roll_error_px_per_100_rows")
# entries of prediction.json without an answer
_NOTHING: dict[str, Any] = {
    "best_cor_px": None, "cor_px": None, "confidence": 0.0, "method": "", "methods": {},
}  # fmt: skip

logger = logging.getLogger(__name__)


def predict_cor(
    rows_h5: str | os.PathLike[str],
    try_json: str | os.PathLike[str],
    prediction_json: str | os.PathLike[str],
    center_txt: str | os.PathLike[str],
    options: PredictCorBlock,
    *,
    used: "UsedRows | None",
    made_from: Mapping[str, Any] | None,
    is_rewritten: Callable[[str | os.PathLike[str]], bool],
) -> dict[str, Any]:
    """Find the COR in the rows from try_recon; write the prediction and the accepted COR.

    An error of the scan or of a method is a result: the verdict "failed" and its reason. Errors of
    writing are raised, and so is lack of memory, as a second attempt gets more.

    `rows_h5` are rows of the scan (`tomopipe.cor.collected_rows`), `try_json` has the try grid,
    {"cor_px": [...]}, unbinned px, or {"failed": reason}. `tomopipe.cor.methods.choose` decides
    between the methods of `options`, in order; without methods the verdict is "flat": no estimate,
    and no failure. `used`: rows of the volume, and the roll by which they are corrected; None: all,
    by none. `is_rewritten` tells whether `center_txt` differs from what a job wrote there; asked
    only if the prediction cannot be read.

    `prediction_json`, which is returned, gets the statement `made_from` and best_cor_px, cor_px,
    confidence, verdict, method, reason, and all of `methods`; `evidence`, the curves of each kind,
    if ai used them; roll_px_per_100_rows and its error, if several rows show how the COR changes
    along them; volume_rows, those of `used`, if a warning of a tilted axis or of rows without light
    depends on them; `warnings`: sentences on these, projections without an image, unsuitable flats,
    a displaced sample, and one that slices will cut off; roll_deg that try_recon measured and
    corrected, and the pitch, if it did (None: it could not measure it); `doubts`: reasons to review
    an accepted COR. `center_txt` gets the accepted COR with two decimals, or is empty.

    A TomopipeError if ai cannot run, as its weights are missing or of another version.
    """
    options = options.in_effect()
    if "ai" in options.methods:
        from tomopipe.cor.ai.network import load_model

        load_model(options.model)
    for path in (prediction_json, center_txt):
        remove_stale(path)
    by_hand = _by_hand(center_txt, prediction_json, is_rewritten)
    if by_hand is None:
        take_away(center_txt)  # if this job is killed, the prediction counts as missing
    warnings: list[str] = []
    try:
        prediction = _predict(rows_h5, try_json, options, used, warnings)
    except MemoryError:
        raise
    except Exception as error:
        if library_error(error):
            raise
        reason = reason_of(error)
        logger.error("failed: %s", reason, exc_info=unexpected(error))
        prediction = {**_NOTHING, "verdict": "failed", "reason": reason}
        if is_of_the_system(error) or "not_read" in part(json_or(try_json, {}), "made_from"):
            made_from = not_read(made_from, reason)
    warnings += prediction.get("warnings", [])
    prediction["warnings"] = warnings
    for warning in warnings:
        logger.warning("%s", warning)
    write_json(prediction | stated(made_from), prediction_json)
    text = format_cor(prediction["cor_px"])
    if by_hand is None:
        write_text(f"{text}\n" if text else "", center_txt)
    else:
        logger.warning("%s, %s, was edited by hand and is kept", center_txt, shown(by_hand))
    logger.info(
        "%s: best %s, accepted %s, confidence %.2f %s",
        prediction["verdict"], prediction["best_cor_px"], text or "none",
        prediction["confidence"], prediction["reason"],
    )  # fmt: skip
    return prediction


def _predict(
    rows_h5: str | os.PathLike[str],
    try_json: str | os.PathLike[str],
    options: PredictCorBlock,
    used: "UsedRows | None",
    warnings: list[str],
) -> dict[str, Any]:
    """Return the prediction from the files of try_recon; add to `warnings`, also if it fails."""
    corrected = read_rows(rows_h5)
    rows = corrected.plain()  # without corrections that the user may change
    bad, n_angles = _with_dim(corrected), rows.sinograms.shape[1]
    bad_frames = warnings_of(bad, n_angles)
    of_flats, spoils = _check_flats(corrected, rows, warnings)
    warnings += bad_frames + of_flats
    volume_rows = used.rows if used else "all"
    if dark := corrected.dark_rows is not None and not rows.failed:
        text = warn_of_dark_rows(corrected.dark_rows, corrected.n_rows, volume_rows)
        warnings += [text] if text else []
    grid = read_json(try_json, "the grid of try_recon")
    measured = {key: grid[key] for key in (ROLL, "pitch") if key in grid}
    if used and used.roll_deg == "auto":
        used = used._replace(roll_deg=measured.get(ROLL, 0.0))
    candidates_px = _candidates(grid, try_json)
    if rows.failed:
        raise ScanError(rows.failed)
    if not options.methods:
        return {**_NOTHING, "verdict": "flat", "reason": NOT_ASKED}
    prediction = _find(rows, candidates_px, options, used)
    prediction = _checked_frames(prediction, rows, bad_frames, options.max_bad_frames)
    if prediction["cor_px"] is not None:
        leans = _leans(measured.get("pitch"))
        prediction = _with(prediction, "doubts", reasons_to_review(bad, n_angles) + spoils + leans)
        prediction = _with_side(prediction, corrected)
    warnings += [text for text in prediction.get("doubts", ()) if text not in warnings]
    warnings += _cut_off(corrected, grid, prediction["cor_px"])
    warnings += _uncorrected_roll(grid, corrected, [*warnings, *prediction["warnings"]])
    # other rows may give another warning
    return prediction | measured | ({VOLUME_ROWS: _plain_rows(volume_rows)} if dark else {})


def _check_flats(corrected: Rows, rows: Rows, warnings: list[str]) -> tuple[list[str], list[str]]:
    """Return warnings of flats, darks and what they leave, and those that spoil the volume.

    `rows` are without corrections that the user may change; checks that fail add to `warnings`.
    """
    from tomopipe.cor.air_level import remedy_of_air, warn_of_air
    from tomopipe.cor.flat_pattern import warn_of_other_flats
    from tomopipe.cor.sample_in_flats import warn_of_sample_in_some_flats

    result = warn_of_references(corrected.flat_levels, corrected.dark_levels)
    if not corrected.minus_log:
        return result, result
    result += warn_of_line_integrals(corrected.sinograms, corrected.flat_levels)
    result += _try_check(warnings, warn_of_other_flats, rows) or []
    bright = warn_of_sample_in_flats(corrected.sinograms)
    bright = bright or _try_check(warnings, warn_of_sample_in_some_flats, rows) or []
    spoils = bright
    if not bright:
        bright = warn_of_flats(corrected.sinograms, corrected.flat_levels)
        if bright and (remedy := _try_check(warnings, remedy_of_air, corrected)):
            bright = [f"{text} {remedy}" for text in bright]
        spoils = bright * is_far_too_bright(corrected.sinograms)
        if not bright:
            bright = spoils = warn_of_bright_pixels(corrected.sinograms)
    cause = result + bright  # of air that is not 1
    air = None if cause else _try_check(warnings, warn_of_air, corrected)
    off, is_far_off = air or ([], False)
    return cause + off, result + spoils + off * is_far_off


def _leans(pitch: Mapping[str, float] | None) -> list[str]:
    """Return a doubt, at most one, of an axis that leans along the beam."""
    if pitch is None:
        return []
    from tomopipe.cor.pitch import Pitch

    doubt = Pitch(**pitch).doubt
    return [doubt] if doubt else []


def _uncorrected_roll(grid: Mapping[str, Any], rows: Rows, warnings: list[str]) -> list[str]:
    """Return a warning, at most one, of a roll with too large an error, if no other names it."""
    if UNCORRECTED_ROLL not in grid:
        return []
    from tomopipe.cor.roll import TILTED, Roll

    if any(text.startswith(TILTED) for text in warnings):
        return []
    return [Roll(**grid[UNCORRECTED_ROLL]).remark(rows.n_rows, rows.sinograms.shape[2])]


def _plain_rows(rows: Sequence[int] | str) -> list[int] | str:
    return rows if isinstance(rows, str) else [*rows]


def _with_dim(rows: Rows) -> BadFrames:
    """Return the bad projections, including those without the beam, or the sample."""
    bad = rows.bad_frames or {}
    if rows.failed or not rows.minus_log:
        return bad
    numbers = rows.numbers_or_places
    result = dict(bad)
    for kind, frames in (("dim", find_dim_frames), ("empty", find_empty_frames)):
        of_kind = numbers[frames(rows.sinograms)]
        result[kind] = of_kind[~np.isin(of_kind, np.concatenate([*result.values(), []]))].tolist()
    return result


def _by_hand(
    center_txt: str | os.PathLike[str],
    prediction_json: str | os.PathLike[str],
    is_rewritten: Callable[[str | os.PathLike[str]], bool],
) -> str | None:
    """Return the text that a person put in place of the last predicted COR; None if unchanged."""
    try:
        return center_by_hand(center_txt, read_prediction(prediction_json)["cor_px"])
    except (TomopipeError, KeyError):  # nothing to compare with
        return center_by_hand(center_txt, None) if is_rewritten(center_txt) else None


def _checked_frames(
    prediction: dict[str, Any], rows: Rows, warnings: Sequence[str], max_bad_frames: float
) -> dict[str, Any]:
    """Return the prediction, not accepted if too many projections have no image."""
    n_bad = sum(map(len, (rows.bad_frames or {}).values()))
    few = n_bad <= max_bad_frames * rows.sinograms.shape[1]
    if few or prediction["verdict"] in ("flat", "failed"):
        return prediction
    limit = f"more than {max_bad_frames:g} of all (predict_cor.max_bad_frames)"
    if too_many(n_bad, rows.sinograms.shape[1]):
        limit += "; set predict_cor.max_bad_frames: 1 to use this scan all the same"
    reason = "; ".join(filter(None, [*warnings, limit, prediction["reason"]]))
    of_roll = (*_ROLL_PX, VOLUME_ROWS)
    others = {key: value for key, value in prediction.items() if key not in of_roll}
    return {**others, "cor_px": None, "verdict": "ambiguous", "reason": reason}


def _with(prediction: dict[str, Any], key: str, texts: list[str]) -> dict[str, Any]:
    """Return a prediction with further doubts or warnings."""
    return {**prediction, key: [*prediction.get(key, []), *texts]} if texts else prediction


def _with_tilt(
    prediction: dict[str, Any], roll: tuple[float, float], n_rows: int, used: "UsedRows | None"
) -> dict[str, Any]:
    """Add the measured roll to a prediction, and a warning if it moves the axis off its COR."""
    from tomopipe.cor.roll import UsedRows, tilt_of

    used = used or UsedRows()
    text, spoils = tilt_of(roll, used, n_rows)
    result = _with(prediction, "doubts" if spoils else "warnings", [text] if text else [])
    # other rows may give another warning
    decides = bool(tilt_of(roll, UsedRows(used.roll_deg), n_rows)[0])
    of_rows = {VOLUME_ROWS: _plain_rows(used.rows)}
    measured = {key: round(value, 4) for key, value in zip(_ROLL_PX, roll, strict=True)}
    return result | measured | (of_rows if decides else {})


def _cut_off(rows: Rows, grid: Mapping[str, Any], cor_px: float | None) -> list[str]:
    """Return warnings, at most one, that the volume will cut off a part of the sample."""
    mode = grid.get("half_acquisition_mode")
    if cor_px is None or mode != "auto" or not rows.minus_log:
        return []
    if not is_full_rotation(rows.theta_rad):
        return []
    return warn_of_width(rows.sinograms, float(bin_cor(cor_px, x0=rows.first_col)))


def _with_side(prediction: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Add a warning or a doubt, at most one, of a sample beyond the edge nearer to the axis."""
    if not rows.minus_log:
        return prediction
    column = float(bin_cor(prediction["cor_px"], x0=rows.first_col))
    text, spoils = warn_of_one_side(rows.sinograms, rows.theta_rad, column)
    return _with(prediction, "doubts" if spoils else "warnings", [text] if text else [])


def _candidates(grid: Mapping[str, Any], path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return the CORs of the try grid from `path`."""
    if "failed" in grid:
        raise ScanError(str(grid["failed"]))
    candidates_px = np.asarray(grid["cor_px"], dtype=np.float64)
    if candidates_px.ndim != 1 or not candidates_px.size or not np.isfinite(candidates_px).all():
        raise TomopipeError(
            f"{path}: cor_px: expected a list of numbers, got {grid['cor_px']!r:.80}. "
            "Delete it and run try_recon again."
        )
    return np.sort(candidates_px)


def _find(
    rows: Rows,
    candidates_px: NDArray[np.float64],
    options: PredictCorBlock,
    used: "UsedRows | None",
) -> dict[str, Any]:
    """Run the methods, decide, and look for effects that make the COR doubtful."""
    from tomopipe.cor import sample_motion
    from tomopipe.cor.adjacent import warn_of_break, warn_of_jitter
    from tomopipe.cor.axial_motion import warn_of_axial_motion
    from tomopipe.cor.curves import Curves
    from tomopipe.cor.methods import choose, package_record
    from tomopipe.cor.opposing_misfit import warn_of_misfit
    from tomopipe.cor.prepared import Prepared
    from tomopipe.cor.roll import measure_roll

    prepared = Prepared(rows)
    curves = Curves(prepared)
    weights = {"ai": options.model, "dinov2": options.dinov2_checkpoint}
    answers = [_ask(name, curves, candidates_px, weights.get(name)) for name in options.methods]
    decision = choose(answers, options.min_confidence, curves.reach_px)
    warnings: list[str] = []  # of failed checks, then of a displacement
    decision, moved = _try_check(warnings, sample_motion.reject_jump, decision, prepared) or (
        decision,
        [],
    )
    prediction = asdict(decision) | {
        "best_cor_px": _rounded(decision.best_cor_px),
        "cor_px": _rounded(decision.cor_px),
        "confidence": round(decision.confidence, 4),
        "methods": {a.method: _method_record(a) | package_record(a.method) for a in answers},
        "warnings": warnings,
    }
    for answer in answers:
        if answer.method == "ai" and answer.verdict != "failed":
            prediction["evidence"] = _evidence_record(curves, candidates_px)
        if path := weights.get(answer.method):
            model = _model_record(answer.method, path)
            prediction["methods"][answer.method]["model"] = model
            if decision.method == answer.method:
                prediction["model"] = model
    warnings += moved
    if decision.best_cor_px is None or moved:
        return prediction
    in_use_px = float(bin_cor(decision.best_cor_px, x0=rows.first_col))
    accepted = decision.cor_px is not None
    nothing = "", False
    misfit, disproved = _try_check(warnings, warn_of_misfit, prepared, in_use_px) or nothing
    proofs, doubts = _check_angles(prepared, in_use_px, warnings, accepted and not misfit)
    accepted = accepted and not proofs
    roll = _try_check(warnings, measure_roll, prepared, in_use_px) if accepted else None
    tilt = roll[0] / 100 if roll else 0.0
    moves, jump = _try_check(warnings, warn_of_axial_motion, rows, in_use_px, tilt) or ("", None)
    for check, args in ((warn_of_break, (prepared, jump)), (warn_of_jitter, (prepared,))):
        text, excludes = _try_check(warnings, check, *args) or nothing
        accepted = accepted and not excludes
        doubts += [text] if text else []
    doubts = [*proofs, *doubts]
    if not (doubts or jump):  # each of these would look like a drift, too
        doubts = _check_course(prepared, in_use_px, warnings, is_alike=not (moves or misfit))
    doubts += [moves] if moves else []
    # motion that the file states is the cause of the others
    doubts[len(proofs) : len(proofs)] = rows.stated_motion
    if not accepted:
        return _refused(prediction, doubts)
    with_doubts = _with(prediction, "doubts", doubts)
    if roll is not None:
        with_doubts = _with_tilt(with_doubts, roll, rows.n_rows, used)
    # a roll, or movement along the axis, explains why opposing projections do not match
    explained = bool(moves or rows.stated_motion or VOLUME_ROWS in with_doubts)
    if disproved and not explained:
        return _refused(prediction, [*doubts, misfit])
    explained = explained or not misfit or bool(with_doubts.get("doubts"))
    return with_doubts if explained else _with(with_doubts, "doubts", [misfit])


def _refused(prediction: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """Return a prediction of which nothing is accepted, with its reasons first."""
    reason = "; ".join(filter(None, [*reasons, prediction["reason"]]))
    verdict = "ambiguous" if prediction["cor_px"] is not None else prediction["verdict"]
    return prediction | {"cor_px": None, "verdict": verdict, "reason": reason}


def _check_angles(
    prepared: "Prepared", cor_px: float, warnings: list[str], accepted: bool
) -> tuple[list[str], list[str]]:
    """Return proofs that the angles are wrong: no COR is right then; and doubts about them."""
    from tomopipe.cor.sample_motion import warn_of_changes, warn_of_standstill
    from tomopipe.cor.stated_angles import warn_of_angles, warn_of_slips
    from tomopipe.cor.turn_changes import warn_of_turns

    wrong = _try_check(warnings, warn_of_angles, prepared, cor_px, accepted=accepted)
    others = [_try_check(warnings, check, prepared) for check in (warn_of_slips, warn_of_changes)]
    if not others[1]:
        others[1] = _try_check(warnings, warn_of_turns, prepared, cor_px)
    # neighbours in angle are none in time then, and differ as much as others
    still = "" if any(others) else _try_check(warnings, warn_of_standstill, prepared)
    return [text for text in (wrong, still) if text], [text for text in others if text]


def _check_course(
    prepared: "Prepared", cor_px: float, warnings: list[str], *, is_alike: bool
) -> list[str]:
    """Return a doubt, at most one, that the sample drifts, or changes its size.

    Where opposing projections are not alike, for a reason that is stated, sizes say nothing.
    """
    from tomopipe.cor.lateral_drift import warn_of_drift
    from tomopipe.cor.size_change import warn_of_size

    checks = (warn_of_drift, warn_of_size) if is_alike else (warn_of_drift,)
    texts = (_try_check(warnings, check, prepared, cor_px) for check in checks)
    text = next(filter(None, texts), "")
    return [text] if text else []


def _try_check(warnings: list[str], check: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Return the result of a check; None if it fails, with a further entry of `warnings`."""
    try:
        return check(*args, **more)
    except MemoryError:
        raise
    except Exception as error:
        text = "%s failed: %s"
        logger.error(text, check.__name__, reason_of(error), exc_info=unexpected(error))
        warnings.append(f"{check.__name__} failed (no effect on the COR): {reason_of(error)}")
        return None


def _ask(
    name: str, curves: "Curves", candidates_px: NDArray[np.float64], weights: str | None
) -> "Answer":
    """Run one method on the columns in use; an exception or a non-finite result is a failure."""
    from tomopipe.cor.answer import nothing
    from tomopipe.cor.methods import ask

    try:
        first_col = curves.prepared.rows.first_col
        columns_px = bin_cor(candidates_px, x0=first_col)
        answer = ask(name, curves, columns_px, weights)
    except MemoryError:
        raise
    except Exception as error:
        logger.error("%s failed: %s", name, reason_of(error), exc_info=unexpected(error))
        return nothing(name, "failed", reason_of(error), candidates_px)
    best_px = answer.best_cor_px
    if not np.isfinite([*answer.curve_score, answer.confidence, best_px or 0.0]).all():
        return nothing(name, "failed", "the result is not a finite number", candidates_px)
    if first_col:
        counted = f"{answer.reason} (pixels counted from column {first_col})"
        answer = replace(
            answer,
            best_cor_px=None if best_px is None else float(unbin_cor(best_px, x0=first_col)),
            curve_cor_px=unbin_cor(answer.curve_cor_px, x0=first_col),
            reason=answer.reason and counted,
        )
    logger.info(
        "%s: %s, best %s, confidence %.2f %s",
        name, answer.verdict, _rounded(answer.best_cor_px), answer.confidence, answer.reason,
    )  # fmt: skip
    return answer


def _model_record(method: str, weights: str | os.PathLike[str]) -> dict[str, str]:
    """Return name and hash of the weights of a method; no hash if there is no such file."""
    if method == "ai":
        from tomopipe.cor.ai.model_card import model_record

        return model_record(weights)
    path = Path(weights)
    if not path.is_file():
        return {"name": path.name}
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _method_record(answer: "Answer") -> dict[str, Any]:
    return {
        "best_cor_px": _rounded(answer.best_cor_px),
        "confidence": round(answer.confidence, 4),
        "verdict": answer.verdict,
        "reason": answer.reason,
        "curve": {
            "cor_px": [round(float(cor_px), 4) for cor_px in answer.curve_cor_px],
            "score": [float(f"{score:.6g}") for score in answer.curve_score],
        },
    }


def _evidence_record(curves: "Curves", candidates_px: NDArray[np.float64]) -> dict[str, Any]:
    """Return the prominence of each kind of evidence on the try grid, for the review page."""
    from tomopipe.cor.curves import KINDS

    result = curves.measures
    columns_px = bin_cor(candidates_px, x0=curves.prepared.rows.first_col)
    return {
        "cor_px": [round(float(cor_px), 4) for cor_px in candidates_px],
        "score": {
            kind: np.interp(columns_px, result.cor_px, height).round(2).tolist()
            for kind, height, valid in zip(KINDS, result.prominence, result.valid, strict=True)
            if valid
        },
    }


def _rounded(cor_px: float | None) -> float | None:
    return None if cor_px is None else round(float(cor_px), 4)
