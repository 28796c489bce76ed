"""Citations of the methods that a campaign used: the references of the code itself.

The references are in the docstring of the method's module or function; they are read from the
source, without importing it.

References
----------
.. [1] The tomopipe developers, "tomopipe: centre of rotation and reconstruction of whole
   micro-tomography campaigns", software.
.. [2] F. Mölder et al., "Sustainable data analysis with Snakemake", F1000Research 10, 33 (2021),
   doi:10.12688/f1000research.29032.2.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.results import Prediction
from tomopipe.report.records import Citation, ScanRecord

_PACKAGE = Path(__file__).parents[1]
_ENTRY = re.compile(r"^\.\. \[\d+\] ", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Location of references: a module, one of its functions or "", and their numbers."""

    module: str
    name: str = ""
    numbers: tuple[int, ...] = ()

    def references(self) -> tuple[str, ...]:
        """Return the references, in the order of the docstring."""
        path = _PACKAGE / self.module
        listed = _listed(_docstrings(path).get(self.name, "")) if path.is_file() else ()
        return tuple(listed[n - 1] for n in self.numbers) if self.numbers else listed


TOMOPIPE = Place("report/citations.py", "", (1,))
WORKFLOW = Place("report/citations.py", "", (2,))
ENGINE = (Place("recon/gridding_kernel.py", "beta_of"), Place("recon/filters.py", "ramp_response"))
OUTLIERS = Place("cor/outliers.py", "outlier_limit")
DISTORTION = Place("prep/warp.py")
# others: the module of that name
FINDERS = {
    "registration": Place("cor/cross_correlation.py"),
    "sum": Place("cor/evidence_sum.py"),
    "pairs": Place("cor/cross_correlation.py"),  # of an earlier version
}
STRIPES = {
    "gated": Place("prep/stripes_gated.py"),
    "sorting": Place("prep/stripes.py", "", (1,)),
    "vo": Place("prep/stripes.py", "", (1,)),
    "fourier-wavelet": Place("prep/stripes.py", "", (2,)),
    "titarenko": Place("prep/stripes.py", "", (3,)),
}
PHASE = {
    "paganin": Place("prep/phase.py", "", (1,)),
    "generalised": Place("prep/phase.py", "", (1, 2)),
}


def citations(scans: Iterable[ScanRecord], config: Mapping[str, Any]) -> tuple[Citation, ...]:
    """List the references of the methods that made the results.

    Parameters
    ----------
    scans : iterable of ScanRecord
        The scans; their predictions name the methods that gave a COR, their volumes show whether
        anything was reconstructed.
    config : mapping
        The complete config, one block per step.
    """
    scans = list(scans)
    predictions = [scan.prediction for scan in scans if scan.prediction is not None]
    found = [Citation("tomopipe", TOMOPIPE.references())]
    found += [Citation("Workflow", WORKFLOW.references()), *_of_finders(predictions)]
    has_volume = any(scan.volume is not None for scan in scans)
    if predictions or has_volume:
        found += _of_preprocessing(_block(config, "preprocess"))
    if any(scan.fix is not None and scan.fix.flagged for scan in scans):
        found.append(Citation("Outliers of a series", OUTLIERS.references()))
    if has_volume:
        engine = [text for place in ENGINE for text in place.references()]
        found.append(Citation("Reconstruction", tuple(engine)))
        found += _of_iterative(_block(config, "full_recon"))
    return tuple(one for one in found if one.references)


def _of_finders(predictions: Sequence[Prediction]) -> Iterator[Citation]:
    curves = [curve for one in predictions for curve in one.curves]
    for name in sorted({curve.method for curve in curves if curve.best_cor_px is not None}):
        if (_PACKAGE / "cor" / name).is_dir() and re.fullmatch(r"\w+", name):
            models = " ".join(one.model.name for one in predictions if one.model is not None)
            yield Citation(f"COR: {name}", _of_network(_PACKAGE / "cor" / name, models))
        elif re.fullmatch(r"\w+", name):
            place = FINDERS.get(name, Place(f"cor/{name}.py"))
            yield Citation(f"COR: {name}", place.references())


def _of_network(folder: Path, models: str) -> tuple[str, ...]:
    """Return the references of the trained model; those of DINOv2 only if it ran."""
    texts = [
        text
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("dinov2") or "dinov2" in models.lower()
        for doc in _docstrings(path).values()
        for text in _listed(doc)
    ]
    return tuple(dict.fromkeys(texts))


def _of_preprocessing(block: Mapping[str, Any]) -> Iterator[Citation]:
    stripes = STRIPES.get(_method(block, "stripes"))
    if stripes:
        yield Citation("Stripes of sinograms", stripes.references())
    phase = PHASE.get(_method(block, "phase"))
    if phase:
        yield Citation("Phase retrieval", phase.references())
    if _block(block, "distortion").get("coefficients"):
        yield Citation("Distortion of the lens", DISTORTION.references())


def _of_iterative(block: Mapping[str, Any]) -> Iterator[Citation]:
    for word in sorted({value for value in block.values() if isinstance(value, str)}):
        texts = Place("recon/iterative.py", word.replace("-", "_")).references()
        yield Citation(f"Reconstruction: {word}", texts if word else ())


def _block(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = config.get(name)
    return block if isinstance(block, Mapping) else {}


def _method(block: Mapping[str, Any], name: str) -> str:
    return str(_block(block, name).get("method", ""))


@cache
def _docstrings(path: Path) -> Mapping[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {"": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = ast.get_docstring(node) or ""
    return found


def _listed(doc: str) -> tuple[str, ...]:
    """Split the section References of a docstring."""
    _, _, section = doc.partition("References\n----------\n")
    section = re.split(r"\n\n\S[^\n]*\n-{3,}", section)[0]  # the next section ends it
    return tuple(" ".join(part.split()) for part in _ENTRY.split(section)[1:])
