"""The figures as Markdown, for a terminal, a report or a document."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tomopipe_lab.evaluate.summary import COVERAGES, Accuracy, Nulls, Trust
from tomopipe_lab.scores import Share


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the figures of `tomopipe_lab.evaluate.summary.summarise` as Markdown tables."""
    parts = []
    if summary["accuracy"]:
        parts += [_accuracy(summary["accuracy"]), _trust(summary["trust"])]
        parts.append(_reliability(summary["trust"]))
    if summary["nulls"]:
        parts.append(_nulls(summary["nulls"]))
    parts += [
        f"{method} failed on {len(reasons)} scans; the first: {reasons[0]}"
        for method, reasons in summary["failed"].items()
    ]
    return "\n\n".join(parts) + "\n"


def _accuracy(table: Mapping[str, Mapping[str, Accuracy]]) -> str:
    head = ["scans", "method", "n", "within 0.5 px", "within 1 px", "within 2 px", "median px"]
    head += ["95 % px", "accepted", "wrong by > 1 px", "accepted in grid", "s"]
    rows = [
        [
            kind,
            method,
            str(figures.n),
            *(_share(share) for share in figures.within),
            _number(figures.median_px),
            _number(figures.p95_px),
            _share(figures.accepted),
            _of(figures.wrong),
            str(figures.accepted_in_grid),
            f"{figures.seconds:.2f}",
        ]
        for kind, methods in table.items()
        for method, figures in methods.items()
    ]
    return _table(head, rows)


def _nulls(table: Mapping[str, Mapping[str, Nulls]]) -> str:
    head = ["scans without an answer", "method", "accepted", "share", "s"]
    rows = [
        [kind, method, _of(figures.accepted), _share(figures.accepted), f"{figures.seconds:.2f}"]
        for kind, methods in table.items()
        for method, figures in methods.items()
    ]
    return _table(head, rows)


def _trust(table: Mapping[str, Trust]) -> str:
    head = ["confidence of", "n", "AUROC (constant 0.5)", "ECE", "Brier", "constant's Brier"]
    head += [f"wrong in top {coverage:.0%}" for coverage in COVERAGES]
    rows = [
        [method, str(figures.n), *(_number(value, 3) for value in _trusted(figures))]
        for method, figures in table.items()
    ]
    return _table(head, rows)


def _trusted(trust: Trust) -> tuple[float, ...]:
    return (trust.auroc, trust.ece, trust.brier, trust.brier_constant, *trust.risk)


def _reliability(table: Mapping[str, Trust]) -> str:
    head = ["confidence of", "between", "n", "mean", "within 1 px"]
    rows = [
        [method, f"{bin_.low:.1f} and {bin_.high:.1f}", str(bin_.n)]
        + [f"{value:.2f}" for value in (bin_.confidence, bin_.right)]
        for method, trust in table.items()
        for bin_ in trust.bins
    ]
    return _table(head, rows)


def _share(share: Share) -> str:
    if not share.n:
        return "-"
    return f"{share.share:.2f} ({share.low:.2f} to {share.high:.2f})"


def _of(share: Share) -> str:
    return f"{share.hits} of {share.n}"


def _number(value: float, digits: int = 2) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}f}" if math.isfinite(value) else "none"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are also lined up as text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
