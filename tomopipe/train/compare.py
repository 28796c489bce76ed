"""Compare networks with the evidence alone, paired, on the scans where the evidence is in doubt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.find.ai.card import card_path
from tomopipe.find.ai.closer import Closer
from tomopipe.find.ai.inputs import Inputs
from tomopipe.find.ai.judgement import Judgement
from tomopipe.find.ai.model import load_model
from tomopipe.find.ai.nets import KINDS_OF_NET
from tomopipe.find.ai.recipe import RECIPE
from tomopipe.find.combine import add_up, vote
from tomopipe.find.curves import Curves
from tomopipe.find.evidence import find_peak
from tomopipe.io.atomic import write_json
from tomopipe.train.calibrate import RIGHT_PX
from tomopipe.train.data import Example, load
from tomopipe.train.refined import Choice, choices
from tomopipe.train.run import judge_all, metrics
from tomopipe.train.work import Progress

EVIDENCE = "evidence"
_CLOSE, _LOW = 0.47, 10.0  # rival over best, and best, of the sum: the less sure half of the scans
_APART = 8  # samples between a place and its rival
_DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : str
        "evidence" or a network.
    share, tail : float
        Within 1 px, of all scans with an answer and of the doubtful ones.
    half_px : float
        Within 0.5 px, of all.
    gain, low, high : float
        Over the evidence on the tail, and its 95 % bootstrap interval.
    auroc : float or None
        Of the confidence, scans without an answer included.
    """

    name: str
    share: float
    tail: float
    half_px: float
    gain: float
    low: float
    high: float
    auroc: float | None


def compare(work: Path, cores: int, progress: Progress) -> tuple[list[Row], int, int]:
    """Measure the evidence and all trained networks on the test split; note it in their cards.

    Parameters
    ----------
    work : path
        The work folder, with features of a test split and trained networks.
    cores : int
        Processes.
    progress : callable
        Told how many are refined.

    Returns
    -------
    rows : list of Row
        The evidence first, then the networks, the simplest first.
    n, n_tail : int
        Scans with an answer, and those among them where the evidence is in doubt.
    """
    examples = load(work, "test")
    said = [evidence_judgement(example) for example in examples]
    base = choices(work, "test", examples, said, cores, progress, vote_of_all)
    answer = np.array([example.truth.cor_px is not None for example in examples])
    errors = {EVIDENCE: _errors(base)}
    tail = answer & in_doubt(examples, errors[EVIDENCE])
    aurocs: dict[str, float | None] = {EVIDENCE: None}
    for name in KINDS_OF_NET:
        weights = work / "nets" / f"{name}.safetensors"
        if not weights.is_file():
            continue
        model = load_model(weights)
        chosen = choices(work, "test", examples, judge_all(model.net, examples), cores, progress)
        errors[name] = _errors(chosen)
        measured = metrics(examples, chosen, model.card["confidence"])
        aurocs[name] = measured["auroc"]
        write_json(model.card | {"test": measured | _objects(examples)}, card_path(weights))
    rows = [_row(name, errors, answer, tail, aurocs[name]) for name in errors]
    return rows, int(answer.sum()), int(tail.sum())


def _objects(examples: list[Example]) -> dict[str, list[str]]:
    return {"families": sorted({one.truth.family for one in examples if one.truth.family})}


def simplest(rows: list[Row]) -> str:
    """Return the first network whose gain over the evidence is surely above 0, else "evidence"."""
    return next((row.name for row in rows[1:] if row.low > 0), EVIDENCE)


def evidence_sum(inputs: Inputs) -> NDArray[np.float64]:
    """Return the hand-made sum of all evidence (`tomopipe.find.combine`)."""
    n_kinds = len(RECIPE.kinds)
    return add_up(
        Curves(
            cor_px=inputs.cor_px,
            binning=1,
            raw=inputs.grid[: 5 * n_kinds : 5],
            prominence=inputs.grid[1 : 5 * n_kinds : 5],
            valid=inputs.scan[-n_kinds:] > 0,
            overlap=inputs.grid[-4],
            texture=inputs.grid[-3],
            scan={},
        )
    )


def evidence_judgement(example: Example) -> Judgement:
    """Let the sum of the evidence choose."""
    total = evidence_sum(example.inputs)
    flat = np.full(len(total), 1.0 / (len(total) + 1))
    return Judgement(total, flat, 0.0, int(np.argmax(total)), 0.0, 1.0)


def vote_of_all(inputs: Inputs, judgement: Judgement, closer: Closer) -> float:
    """Return the COR as the method sum makes it."""
    if closer.fine_px:
        return vote(closer.fine_px)[0]
    return float(inputs.cor_px[judgement.index])


def in_doubt(examples: list[Example], error_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the evidence is wrong, low, or has a rival nearly as high."""
    doubtful = error_px > RIGHT_PX
    for i, example in enumerate(examples):
        peak = find_peak(evidence_sum(example.inputs), apart=_APART)
        doubtful[i] |= peak.rivalry > _CLOSE or peak.height < _LOW
    return doubtful


def bootstrap(gain: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean, drawing scans with replacement."""
    rng = np.random.default_rng(seed)
    means = [gain[rng.integers(len(gain), size=len(gain))].mean() for _ in range(_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _errors(chosen: list[Choice]) -> NDArray[np.float64]:
    return np.array([choice.error_px for choice in chosen])


def _row(
    name: str,
    errors: dict[str, NDArray[np.float64]],
    answer: NDArray[np.bool_],
    tail: NDArray[np.bool_],
    area: float | None,
) -> Row:
    right = errors[name] <= RIGHT_PX
    gain = right[tail].astype(float) - (errors[EVIDENCE][tail] <= RIGHT_PX)
    low, high = bootstrap(gain) if gain.size else (0.0, 0.0)
    return Row(
        name=name,
        share=float(right[answer].mean()),
        tail=float(right[tail].mean()) if tail.any() else 0.0,
        half_px=float((errors[name][answer] <= 0.5).mean()),
        gain=float(gain.mean()) if gain.size else 0.0,
        low=low,
        high=high,
        auroc=area,
    )


def table(rows: list[Row], n: int, n_tail: int) -> str:
    """Return the comparison as a Markdown table."""
    lines = [
        f"| | within 1 px (n = {n}) | within 0.5 px | tail, within 1 px (n = {n_tail}) "
        "| gain on the tail (95 %) | AUROC |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        gain = (
            "" if row.name == EVIDENCE else f"{row.gain:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        )
        area = "" if row.auroc is None else f"{row.auroc:.3f}"
        lines.append(
            f"| {row.name} | {row.share:.3f} | {row.half_px:.3f} | {row.tail:.3f} | {gain} "
            f"| {area} |"
        )
    return "\n".join(lines)
