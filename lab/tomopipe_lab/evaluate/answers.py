"""What one method said about one scan of known COR: the record that every figure is made of."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tomopipe.errors import TomopipeError

DECISION = "decision"  # of all configured methods together, as predict_cor makes it


@dataclass(frozen=True)
class Answer:
    """One method on one scan.

    Attributes
    ----------
    scan : str
        Name of the case or scan, unique in its suite.
    family : str
        Kind of object, or "".
    conditions : tuple of str
        Mode and kinds of damage.
    truth_px : float or None
        The true COR; None: the scan has no answer.
    grid_px : (float, float)
        Ends of the try grid.
    method : str
        Name in `tomopipe.cor_methods.COR_METHODS`, or "decision".
    best_cor_px, cor_px : float or None
        Best estimate and accepted value, as in prediction.json.
    confidence : float
        0 to 1.
    verdict, reason : str
        As in prediction.json.
    seconds : float
        Wall-clock time of predict_cor with this method alone.
    """

    scan: str
    family: str
    conditions: tuple[str, ...]
    truth_px: float | None
    grid_px: tuple[float, float]
    method: str
    best_cor_px: float | None
    cor_px: float | None
    confidence: float
    verdict: str
    reason: str
    seconds: float

    @property
    def error_px(self) -> float:
        """Distance of the best estimate from the truth; infinite without one."""
        if self.best_cor_px is None or self.truth_px is None:
            return math.inf
        return abs(self.best_cor_px - self.truth_px)

    @property
    def accepted(self) -> bool:
        """Whether a value was accepted."""
        return self.cor_px is not None

    @property
    def in_grid(self) -> bool:
        """Whether the try grid holds the truth."""
        low, high = self.grid_px
        return self.truth_px is not None and low <= self.truth_px <= high

    @property
    def accepted_in_grid(self) -> bool:
        """Whether a value inside the try grid was accepted."""
        low, high = self.grid_px
        return self.cor_px is not None and low <= self.cor_px <= high

    def is_within(self, limit_px: float) -> bool:
        """Whether the best estimate is so near to the truth."""
        return self.error_px <= limit_px


def to_line(answer: Answer) -> str:
    """Return an answer as one line of JSON."""
    return json.dumps(asdict(answer), sort_keys=True, ensure_ascii=False) + "\n"


def read_answers(path: str | os.PathLike[str]) -> list[Answer]:
    """Read the answers of a file of JSON lines.

    Parameters
    ----------
    path : path-like
        One answer per line; a last line cut short by a killed run is skipped.

    Returns
    -------
    list of Answer
        In the order of the file; empty if there is no file.

    Raises
    ------
    TomopipeError
        If a line is no answer.
    """
    if not Path(path).exists():
        return []
    lines = Path(path).read_text("utf-8").split("\n")[:-1]
    answers = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record["conditions"] = tuple(record["conditions"])
            record["grid_px"] = tuple(record["grid_px"])
            answers.append(Answer(**record))
        except (ValueError, TypeError, KeyError) as error:
            raise TomopipeError(
                f"{path}: line {number}: expected an answer of tomopipe lab evaluate; got {error}. "
                "Delete the file and run it again."
            ) from error
    return answers


def append(answers: Iterable[Answer], path: str | os.PathLike[str]) -> None:
    """Add the answers about one scan to the end of a file; the scan is there whole or not."""
    text = "".join(map(to_line, answers))
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
