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
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.results import Prediction
from tomopipe.report.records import Citation, ScanRecord
from tomopipe.storage.json_files import part

_PACKAGE = Path(__file__).parents[1]
_Places = Mapping[str, tuple[Any, ...]]
_ENTRY = re.compile(r"^\.\. \[\d+\] ", re.MULTILINE)


# Where references are: a module, one of its functions or "", and their numbers; without them all.
TOMOPIPE, WORKFLOW = ("report/citations.py", "", 1), ("report/citations.py", "", 2)
ENGINE = (("recon/gridding_kernel.py", "beta_of"), ("recon/filters.py", "ramp_response"))
OUTLIERS = ("cor/outliers.py", "outlier_limit")
DYNAMIC_FLATS, DISTORTION = ("prep/dynamic_flats.py",), ("prep/warp.py",)
HALF_ACQUISITION = ("prep/half_acquisition.py",)
# others: the module of that name
FINDERS = {
    "registration": ("cor/cross_correlation.py",),
    "sum": ("cor/evidence_sum.py",),
}
STRIPES: _Places = {
    "gated": ("prep/stripes_gated.py",),
    "sorting": ("prep/stripes.py", "", 1),
    "vo": ("prep/stripes.py", "", 1),
    "fourier-wavelet": ("prep/stripes.py", "", 2),
    "titarenko": ("prep/stripes.py", "", 3),
}
PHASE: _Places = {"paganin": ("prep/phase.py", "", 1), "generalised": ("prep/phase.py", "", 1, 2)}


def references(module: str, name: str = "", *numbers: int) -> tuple[str, ...]:
    """Return the references at a place, in the order of the docstring."""
    path = _PACKAGE / module
    listed = _listed(_docstrings(path).get(name, "")) if path.is_file() else ()
    return tuple(listed[n - 1] for n in numbers) if numbers else listed


def citations(
    scans: Iterable[ScanRecord],
    config: Mapping[str, Any],
    volumes: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Citation, ...]:
    """List the references of the methods that made the results.

    Predictions name the methods that gave a COR. `volumes`, the provenance of volumes by scan, says
    how they were made; where it is unknown, `config` counts: complete, one block per step.
    """
    scans = list(scans)
    stated = [part(volume, "parameters") for volume in (volumes or {}).values()]
    corrections = [part(options, "corrections") for options in stated] or [
        part(config, "preprocess")
    ]
    algorithms = stated or [part(config, "full_recon")]
    predictions = [scan.prediction for scan in scans if scan.prediction is not None]
    found = [("tomopipe", references(*TOMOPIPE)), ("Workflow", references(*WORKFLOW))]
    found += _of_finders(predictions)
    has_volume = any(scan.volume is not None for scan in scans)
    if predictions or has_volume:
        found += _of_preprocessing(corrections)
    if any(scan.fix is not None and scan.fix.flagged for scan in scans):
        found.append(("Outliers of a series", references(*OUTLIERS)))
    if has_volume:
        found.append(("Reconstruction", tuple(r for place in ENGINE for r in references(*place))))
        for word in sorted({str(options.get("algorithm", "fbp")) for options in algorithms}):
            iterative = references("recon/iterative.py", word.replace("-", "_")) if word else ()
            found.append((f"Reconstruction: {word}", iterative))
        geometries = [part(volume, "geometry") for volume in (volumes or {}).values()]
        if any(geometry.get("half_acquisition") for geometry in geometries):
            found.append(("Half acquisition", references(*HALF_ACQUISITION)))
    return tuple(Citation(method, texts) for method, texts in found if texts)


def _of_finders(predictions: Sequence[Prediction]) -> Iterator[tuple[str, tuple[str, ...]]]:
    curves = [curve for prediction in predictions for curve in prediction.curves]
    for name in sorted({curve.method for curve in curves if curve.best_cor_px is not None}):
        if (_PACKAGE / "cor" / name).is_dir() and re.fullmatch(r"\w+", name):
            models = " ".join(found.model.name for found in predictions if found.model is not None)
            yield f"COR: {name}", _of_network(_PACKAGE / "cor" / name, models)
        elif re.fullmatch(r"\w+", name):
            yield f"COR: {name}", references(*FINDERS.get(name, (f"cor/{name}.py",)))


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


def _of_preprocessing(
    blocks: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if any(block.get("flat_method") == "pca" for block in blocks):
        yield "Dynamic flats", references(*DYNAMIC_FLATS)
    for title, key, places in (
        ("Stripes of sinograms", "stripes", STRIPES),
        ("Phase retrieval", "phase", PHASE),
    ):
        for method in sorted({str(part(block, key).get("method")) for block in blocks}):
            if method in places:
                yield f"{title}: {method}", references(*places[method])
    if any(part(block, "distortion").get("coefficients") for block in blocks):
        yield "Distortion of the lens", references(*DISTORTION)


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
