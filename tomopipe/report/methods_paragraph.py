"""The paragraph for a paper's methods section, from the statements in the results.

Values come from the provenance of the volumes and from the predictions, never from the present
config. What holds for some scans only is given with their number.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tomopipe.campaign.state import NOT_SELECTED
from tomopipe.config import PreprocessBlock
from tomopipe.config.blocks import ITERATIONS
from tomopipe.config.preprocess import STRIPE_FILTERS
from tomopipe.report.records import CampaignRecord, Citation, ScanRecord

Provenance = Mapping[str, Any]
_ALGORITHMS = {
    "fbp": "filtered back-projection on a Fourier grid ({filter} filter)",
    "sirt": "SIRT ({iterations} iterations)",
    "cgls": "CGLS ({iterations} iterations)",
    "tv": "least squares with a total-variation penalty of {tv_strength:g}",
}
_FLATS = {
    "mean": "the mean of the flat fields",
    "median": "the median of the flat fields",
    "interpolate": "flat fields interpolated in time",
    "pca": "flat fields fitted by {flat_components} principal components",
}
_STRIPES = {name: entry.methods for name, entry in STRIPE_FILTERS.items()}
_SOURCES = {
    "ai": "found by a neural network",
    "auto": "found automatically",
    "manual": "set by hand",
    "outlier": "replaced as outliers by the mean of their neighbours in the series",
    "neighbours": "filled with the mean of their neighbours in the series",
    "series-mean": "filled with the mean of the series",
    "default": "set to a common default",
}
_PARTS = {"numpy": "NumPy", "scipy": "SciPy", "numba": "Numba", "h5py": "h5py", "python": "Python"}


def methods_paragraph(campaign: CampaignRecord, volumes: Mapping[str, Provenance]) -> str:
    """Write the paragraph, citing by number; "" while there are no volumes."""
    scans = [
        scan
        for scan in campaign.scans
        if scan.name in volumes and scan.state not in NOT_SELECTED  # its volume is of earlier
    ]
    if not scans:
        return ""
    cited = _cited(campaign.citations)
    made = [volumes[scan.name] for scan in scans]
    try:
        sentences = [
            _data(campaign, scans, made, cited),
            _corrections(made, cited),
            _centres(scans, cited),
            _reconstruction(made, cited),
            _versions(made, campaign.versions),
        ]
    except (LookupError, TypeError, ValueError) as error:
        return f"Not written: the volumes state what they were made from in another way ({error})."
    return " ".join(sentence for sentence in sentences if sentence)


def reference_numbers(citations: Iterable[Citation]) -> dict[str, int]:
    """Number the references, each once, in order of listing."""
    texts = dict.fromkeys(text for citation in citations for text in citation.references)
    return {text: number for number, text in enumerate(texts, start=1)}


def reference_lists(
    citations: Iterable[Citation],
) -> list[tuple[str, list[tuple[int, str]], list[int]]]:
    """Return each method with its references, and the numbers of those that stand above."""
    numbers, listed, last = reference_numbers(citations), [], 0
    for citation in citations:
        each = [(numbers[text], text) for text in citation.references]
        new = [pair for pair in each if pair[0] > last]
        listed.append((citation.method, new, [number for number, _ in each if number <= last]))
        last = max([last, *(number for number, _ in new)])
    return listed


def _cited(citations: Sequence[Citation]) -> dict[str, str]:
    """Return the citation of each method, such as " [3, 4]"."""
    numbers = reference_numbers(citations)
    return {
        citation.method: f" [{', '.join(str(numbers[text]) for text in citation.references)}]"
        for citation in citations
    }


def _some(values: Iterable[str]) -> str:
    """Join the texts of all volumes: once if they are equal, else with numbers of scans."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({_scans(n)})" for text, n in counts.most_common())


def _scans(n: int) -> str:
    return f"{n} scan{'' if n == 1 else 's'}"


def _values(values: Iterable[float], unit: str, digits: str = "g") -> str:
    known = sorted(set(values))
    if not known:
        return ""
    low, high = (f"{value:{digits}}" for value in (known[0], known[-1]))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _data(
    campaign: CampaignRecord,
    scans: Sequence[ScanRecord],
    made: Sequence[Provenance],
    cited: Mapping[str, str],
) -> str:
    shapes = [provenance["geometry"] for provenance in made]
    angles = _values((shape["n_angles"] for shape in shapes), " projections")
    span = _values((abs(g["theta_deg"][1] - g["theta_deg"][0]) for g in shapes), "°", ".0f")
    n_cols = _values((shape["n_cols"] for shape in shapes), "")
    n_rows = _values((shape["n_rows"] for shape in shapes), "")
    text = f"{_scans(len(scans))} of {angles} over {span}, of {n_cols} × {n_rows} detector pixels"
    for name, word, unit in (("pixel_size_um", "of", " µm"), ("energy_kev", "at", " keV")):
        cells = [(scan.row or {}).get(name, "") for scan in scans]
        if all(cells):
            text += f" {word} {_values(map(float, cells), unit)}"
    left = sum(s.state in NOT_SELECTED for s in campaign.scans)
    skipped = f"; {_scans(left)} {'was' if left == 1 else 'were'} skipped" if left else ""
    tomopipe, workflow = (cited.get(name, "") for name in ("tomopipe", "Workflow"))
    how = f"with tomopipe{tomopipe} as a Snakemake workflow{workflow}"
    return f"{text} were processed {how}{skipped}."


def _corrections(made: Sequence[Provenance], cited: Mapping[str, str]) -> str:
    texts = _some(_prepared(provenance, cited) for provenance in made)
    return f"Projections were prepared as follows: {texts}."


def _prepared(provenance: Provenance, cited: Mapping[str, str]) -> str:
    """Describe the corrections of a volume's projections, in their order."""
    known = provenance["parameters"]
    block = PreprocessBlock(**known["corrections"])
    flats = _FLATS[block.flat_method].format(flat_components=block.flat_components)
    flats += cited.get("Dynamic flats", "") if block.flat_method == "pca" else ""
    phase, stripes = block.phase.method, block.stripes.method
    applied = (
        (known["darks"] != "none", "dark field subtracted"),
        (known["flats"] != "none", f"divided by {flats}"),
        (
            block.bad_pixels.threshold is not None,
            "bad detector pixels replaced by their neighbours",
        ),
        (block.ring_current.dataset is not None, "scaled by the ring current"),
        (
            block.zingers.threshold is not None,
            "zingers brighter by {0.zingers.threshold:g} than the median of "
            "{0.zingers.size_px} × {0.zingers.size_px} pixels removed",
        ),
        (block.air_px, "normalised by {0.air_px} columns of air at both edges"),
        (
            block.distortion.coefficients,
            "distortion of the lens corrected" + cited.get("Distortion of the lens", ""),
        ),
        (block.roll_deg, "rotated by {0.roll_deg:g}° about the beam"),
        (
            phase != "none",
            "phase retrieved ({0.phase.method} filter of Paganin, delta/beta "
            "{0.phase.delta_beta:g})" + cited.get(f"Phase retrieval: {phase}", ""),
        ),
        (known["minus_log"], "negative logarithm taken"),
        (block.hardening, "beam hardening corrected by a polynomial"),
        (
            stripes != "none",
            _STRIPES.get(stripes, "") + cited.get(f"Stripes of sinograms: {stripes}", ""),
        ),
    )
    parts = [text.format(block) for applies, text in applied if applies]
    return ", ".join(parts) or "nothing was corrected"


def _centres(scans: Sequence[ScanRecord], cited: Mapping[str, str]) -> str:
    words = []
    for source, n in Counter(scan.source for scan in scans if scan.source).most_common():
        text = _SOURCES.get(source, source)
        if source in ("ai", "auto"):
            predictions = [s.prediction for s in scans if s.source == source and s.prediction]
            names = sorted({entry.method for entry in predictions if entry.method})
            models = sorted({entry.model.name for entry in predictions if entry.model})
            named = [f"model {name}" for name in models] if source == "ai" else names
            text += f" ({', '.join(named)})" if named else ""
            text += "".join(cited.get(f"COR: {name}", "") for name in names)
            known = [entry.confidence for entry in predictions if entry.confidence is not None]
            text += f", confidence {_values(known, '', '.2f')}" if known else ""
        if source == "outlier":
            text += cited.get("Outliers of a series", "")
        words.append(f"{text} in {_scans(n)}")
    return f"The centre of rotation was {'; '.join(words)}." if words else ""


def _reconstruction(made: Sequence[Provenance], cited: Mapping[str, str]) -> str:
    texts = _some(_reconstructed(provenance, cited) for provenance in made)
    return f"Slices were reconstructed by {texts}."


def _reconstructed(provenance: Provenance, cited: Mapping[str, str]) -> str:
    known, shape = provenance["parameters"], provenance["geometry"]
    name = known.get("algorithm", "fbp")
    iterations = known.get("iterations") or ITERATIONS.get(name)
    text = _ALGORITHMS[name].format(**(known | {"iterations": iterations}))
    text += cited.get("Reconstruction" if name == "fbp" else f"Reconstruction: {name}", "")
    if shape["half_acquisition"]:
        text += ", of 360 degrees with the axis near an edge of the detector (half acquisition)"
        text += cited.get("Half acquisition", "")
    if known["binning"] != 1:
        text += f", binned {known['binning']} times"
    unit = "per cm" if known["unit"] == "per_cm" else "per detector pixel"
    return f"{text}, to attenuation {unit} in {known['dtype']}"


def _versions(made: Sequence[Provenance], now: Mapping[str, str]) -> str:
    def named(provenance: Provenance) -> str:
        parts = [f"{word} {provenance['versions'][key]}" for key, word in _PARTS.items()
                 if provenance["versions"].get(key, "unknown") != "unknown"]  # fmt: skip
        return (
            f"tomopipe {provenance['versions'].get('tomopipe', 'unknown')} with {', '.join(parts)}"
        )

    return f"Versions: {_some(map(named, made))}; Snakemake {now['snakemake']}."
