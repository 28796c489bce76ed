"""Read the small files of a campaign; a broken one gives a note, never an exception."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import Failure, plain_error
from tomopipe.campaign.files import Logs
from tomopipe.campaign.job_status import JobStatus, end_of, parse_job, position
from tomopipe.campaign.results import Curve, Fix, Model, Prediction
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.report.records import Note
from tomopipe.storage.json_files import number, part, text, texts
from tomopipe.storage.tables import read_tsv

_TAIL_LINES = 25


class Reader:
    """Reads files below one folder and notes which could not be used."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.notes: list[Note] = []

    def note(self, path: Path, problem: str, error: BaseException | None = None) -> None:
        """Note that `path` could not be used."""
        self.notes.append(Note(self.relative(path), problem, is_of_the_system(error)))

    def relative(self, path: Path) -> str:
        """Return `path` relative to the campaign folder."""
        return os.path.relpath(path, self.base)

    def json(self, path: Path) -> dict[str, Any] | None:
        """Read a JSON object; None if the file is absent or (noted) broken."""
        try:
            data = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.note(path, f"not readable as JSON: {error}", error)
            return None
        if not isinstance(data, dict):
            self.note(path, f"expected a JSON object, found a {type(data).__name__}")
            return None
        return data

    def tsv(self, path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """Read the rows of a table; none if it is absent or (noted) broken."""
        try:
            return read_tsv(path, columns)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except TomopipeError as error:
            self.note(path, str(error).removeprefix(f"{path}: "))
        except Exception as error:  # csv has its own errors; all are noted
            self.note(path, f"not readable as a table: {error}", error)
        return []

    def log_tail(self, path: Path) -> str:
        """Read the last lines of a log."""
        try:
            return end_of(path, _TAIL_LINES)
        except OSError as error:
            if is_of_the_system(error):
                self.note(path, f"not readable: {error}", error)
            return ""


def read_jobs(reader: Reader, folder: Path) -> list[JobStatus]:
    """Read every status file below `folder`, in order of step and name."""
    jobs = []
    for path in sorted(folder.glob("*/*.json")):
        # temporary files, and the job of this report
        if not path.name.startswith(".") and path.parent.name != "report":
            jobs.append(parse_job(path, reader.json(path) or {}))
    begun = [job for job in jobs if job is not None]
    return sorted(begun, key=lambda job: (position(job.step), job.step, job.key))


def parse_prediction(data: Mapping[str, Any], *, points: bool = True) -> Prediction:
    """Make a Prediction from prediction.json, optionally without the points of curves."""
    curves = [
        _parse_curve(name, method if points else method | {"curve": None})
        for name, method in part(data, "methods").items()
        if isinstance(method, dict)
    ]
    return Prediction(
        best_cor_px=number(data.get("best_cor_px")),
        cor_px=number(data.get("cor_px")),
        confidence=number(data.get("confidence")),
        verdict=text(data.get("verdict")),
        method=text(data.get("method")),
        reason=text(data.get("reason")),
        curves=tuple(curves),
        evidence=_parse_evidence(part(data, "evidence") if points else {}),
        model=_parse_model(part(data, "model")),
        roll_px_per_100_rows=number(data.get("roll_px_per_100_rows")),
        warnings=texts(data.get("warnings")),
        doubts=texts(data.get("doubts")),
    )


def _parse_model(model: Mapping[str, Any]) -> Model | None:
    name = text(model.get("name"))
    return Model(name, text(model.get("sha256"))) if name else None


def _parse_evidence(evidence: Mapping[str, Any]) -> tuple[Curve, ...]:
    return tuple(
        _parse_curve(kind, {"curve": {"cor_px": evidence.get("cor_px"), "score": score}})
        for kind, score in part(evidence, "score").items()
    )


def _parse_curve(name: str, method: Mapping[str, Any]) -> Curve:
    curve = part(method, "curve")
    cor_px, score = curve.get("cor_px"), curve.get("score")
    pairs: list[tuple[float, float]] = []
    if isinstance(cor_px, list) and isinstance(score, list):
        read = zip(map(number, cor_px), map(number, score), strict=False)
        pairs = sorted((x, y) for x, y in read if x is not None and y is not None)
    known_px, scores = zip(*pairs, strict=True) if pairs else ((), ())
    return Curve(
        method=name,
        best_cor_px=number(method.get("best_cor_px")),
        confidence=number(method.get("confidence")),
        cor_px=known_px,
        score=scores,
    )


def parse_fix(row: Mapping[str, str]) -> Fix:
    """Make a Fix from one row of a table of fix_cor."""
    return Fix(
        before_px=number(row["before_px"]),
        after_px=number(row["after_px"]),
        source=row["source"],
        flagged=row["flagged"].lower() == "true",
        reason=row["reason"],
        limit_px=number(row["limit_px"]),
        neighbours=tuple(name for name in row["neighbours"].split(";") if name),
    )


def parse_failure(reader: Reader, logs: Logs[Path], step: str, scan: str, reason: str) -> Failure:
    """Make a Failure, with the end of the log of its job."""
    log = logs.log(step, scan)
    tail = reader.log_tail(log)
    last = next((line for line in reversed(tail.splitlines()) if line.strip()), "")
    return Failure(
        step=step,
        scan=scan,
        reason=plain_error(reason, step) or last or "the job ended without a result",
        log=reader.relative(log),
        log_tail=tail,
    )
