"""Citations of the methods that a campaign used, and the paragraph for a methods section.

Values in the paragraph come from the provenance of the volumes and from the predictions, never from
the present config. If values differ between scans, each is given with its number of scans.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tomopipe.campaign.state.facts import NOT_SELECTED
from tomopipe.campaign.state.signs import State
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import CORRECTIONS, Correction
from tomopipe.config.site_corrections import COUNTS, placed
from tomopipe.config.step_blocks import ITERATIONS
from tomopipe.config.stripe_filters import STRIPE_FILTERS
from tomopipe.cor_methods import BECK, COR_METHODS, DINOV2
from tomopipe.report.records import CampaignRecord, ScanRecord
from tomopipe.storage.json_files import part

REFERENCES: Mapping[str, tuple[str, ...]] = {
    "tomopipe": (
        'The tomopipe developers, "tomopipe: centre of rotation and reconstruction of whole '
        'micro-tomography campaigns", software',
    ),
    "Workflow": (
        "F. Mölder et al., F1000Research 10, 33 (2021), doi:10.12688/f1000research.29032.2",
    ),
    **{f"COR: {name}": m.papers for name, m in {**COR_METHODS, "dinov2": DINOV2}.items()},
    "Dynamic flats": (
        "V. Van Nieuwenhove et al., Opt. Express 23, 27975 (2015), doi:10.1364/OE.23.027975",
        "C. Jailin et al., J. Synchrotron Rad. 24, 220 (2017), doi:10.1107/S1600577516015812",
    ),
    **{f"Stripes of sinograms: {name}": entry.papers for name, entry in STRIPE_FILTERS.items()},
    **{title: papers for entry in CORRECTIONS.values() for title, papers in entry.papers.items()},
    "Outliers of a series": ('TomoGUI manual, "COR Management", "Fix COR Outliers", pass 1',),
    "Reconstruction": (
        "P. J. Beatty et al., IEEE Trans. Med. Imaging 24, 799 (2005), doi:10.1109/TMI.2005.848376",
        "A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, "
        "doi:10.1137/1.9780898719277",
    ),
    "Reconstruction: sirt": (
        "A. H. Andersen, A. C. Kak, Ultrasonic Imaging 6, 81 (1984), "
        "doi:10.1177/016173468400600107",
    ),
    "Reconstruction: cgls": (
        "M. R. Hestenes, E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952), "
        "doi:10.6028/jres.049.044",
    ),
    "Reconstruction: tv": (BECK,),
    "Half acquisition": ("P. S. Cho et al., Phys. Med. Biol. 40, 1863 (1995)",),
}


def citations(
    scans: Iterable[ScanRecord],
    config: Mapping[str, Any],
    volumes: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the references of the methods that made the results.

    Methods of COR finding come from the predictions, the others from `volumes`, the provenance by
    scan, or without volumes from `config`, which has all blocks.
    """
    scans = list(scans)
    stated = [part(volume, "parameters") for volume in (volumes or {}).values()]
    corrections = [part(options, "corrections") for options in stated] or [
        part(config, "preprocess")
    ]
    curves = [c for scan in scans if scan.prediction is not None for c in scan.prediction.curves]
    used = {"tomopipe", "Workflow"}
    used |= {f"COR: {curve.method}" for curve in curves if curve.best_cor_px is not None}
    if has_volume := any(scan.volume is not None for scan in scans):
        algorithms = stated or [part(config, "full_recon")]
        used |= {f"Reconstruction: {options.get('algorithm')}" for options in algorithms}
        geometries = [part(volume, "geometry") for volume in (volumes or {}).values()]
        is_half = any(geometry.get("half_acquisition") for geometry in geometries)
        used |= {"Reconstruction", *(["Half acquisition"] if is_half else [])}
    is_made = has_volume or any(scan.prediction for scan in scans)
    for block in {repr(block): block for block in corrections * is_made}.values():
        used |= {"Dynamic flats"} if block.get("flat_method") == "pca" else set()
        used.add(f"Stripes of sinograms: {part(block, 'stripes').get('method')}")
        recipe = PreprocessBlock(**block)
        used |= {t for k in recipe.switched_on for t in _titles(CORRECTIONS[k], recipe, k)}
    if any(scan.fix is not None and scan.fix.flagged for scan in scans):
        used.add("Outliers of a series")
    of_packages = {f"COR: {curve.method}": curve.papers for curve in curves if curve.papers}
    for options in stated:
        entries = part(options, "of_sites").items()
        of_packages |= {f"Correction: {key}": tuple(entry["papers"]) for key, entry in entries}
    used |= of_packages.keys()
    every = {**REFERENCES, **of_packages}
    return {name: texts for name, texts in every.items() if name in used and texts}


def _titles(entry: Correction, block: PreprocessBlock, key: str) -> list[str]:
    """Return the titles of the papers of a correction, with the method in use."""
    method = getattr(getattr(block, key), "method", "")
    return [t for t in entry.papers if not method or t.endswith(f": {method}")]


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
    "register": "the mean of the flat fields, moved with the beam where air showed how",
    "pca": "flat fields fitted by {flat_components} principal components",
}
_STRIPES = {name: entry.methods for name, entry in STRIPE_FILTERS.items()}
_SOURCES = {
    "ai": "found by a neural network",
    "auto": "found automatically",
    "manual": "set by hand",
    "outlier": "replaced as outliers by estimates from their series",
    "neighbours": "filled with the mean of their neighbours in the series",
    "series-mean": "filled with the mean of the series",
    "line": "filled from the robust line of the series",
    "place": "filled with the mean of scans at the same height of the stage or, where files have "
    "none, at the same position in their series",
    "time": "filled from a robust model over time of the scans of their file",
    "default": "set to a common default",
}
_PARTS = {"numpy": "NumPy", "scipy": "SciPy", "numba": "Numba", "h5py": "h5py", "python": "Python"}


def methods_paragraph(campaign: CampaignRecord, volumes: Mapping[str, Provenance]) -> str:
    """Write the paragraph, citing by number; "" while there are no volumes."""
    scans = [
        scan
        for scan in campaign.scans
        if scan.name in volumes and scan.state not in NOT_SELECTED  # its volume is outdated
    ]
    if not scans:
        return ""
    cited = _marks(campaign.citations)
    made = [volumes[scan.name] for scan in scans]
    try:
        sentences = [
            _data(campaign, scans, made, cited),
            f"Projections were prepared as follows: {_some(_all_prepared(scans, made, cited))}.",
            _centres(scans, cited),
            f"Slices were reconstructed by {_some(_reconstructed(v, cited) for v in made)}.",
            _versions(made, campaign.versions),
        ]
    except (LookupError, TypeError, ValueError) as error:
        return f"Not written: the provenance of the volumes has an unknown form ({error})."
    return " ".join(sentence for sentence in sentences if sentence)


def cited_in_text(
    campaign: CampaignRecord, volumes: Mapping[str, Provenance]
) -> Mapping[str, tuple[str, ...]]:
    """Return the citations that the paragraph has; all while there is no paragraph."""
    text, marks = methods_paragraph(campaign, volumes), _marks(campaign.citations)
    used = {name: texts for name, texts in campaign.citations.items() if marks[name] in text}
    return used or campaign.citations


def _marks(citations: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the citation of each method in the text, such as " [3, 4]"."""
    numbers = reference_numbers(citations)
    return {
        method: f" [{', '.join(str(numbers[text]) for text in texts)}]"
        for method, texts in citations.items()
    }


def reference_numbers(citations: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Number the references, each once, in order of listing."""
    references = dict.fromkeys(text for texts in citations.values() for text in texts)
    return {text: number for number, text in enumerate(references, start=1)}


def reference_lists(
    citations: Mapping[str, Sequence[str]],
) -> list[tuple[str, list[tuple[int, str]], list[int]]]:
    """Return each method with its new references, and the numbers of those listed above."""
    numbers, results, last = reference_numbers(citations), [], 0
    for method, texts in citations.items():
        new = [(numbers[text], text) for text in texts if numbers[text] > last]
        above = [numbers[text] for text in texts if numbers[text] <= last]
        results.append((method, new, above))
        last += len(new)
    return results


def _some(values: Iterable[str]) -> str:
    """Join the texts of all volumes: once if they are equal, else with numbers of scans."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({_scans(n)})" for text, n in counts.most_common())


def _scans(n: int) -> str:
    return f"{n} scan{'' if n == 1 else 's'}"


def _values(values: Iterable[float], unit: str, digits: str = "g") -> str:
    in_order = sorted(set(values))
    if not in_order:
        return ""
    low, high = (f"{value:{digits}}" for value in (in_order[0], in_order[-1]))
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
    numbers = [("pixel_size_um", "of", " µm"), ("energy_kev", "at", " keV")]
    phases = (part(part(p["parameters"], "corrections"), "phase") for p in made)
    if any(phase.get("method", "none") != "none" for phase in phases):
        numbers.append(("distance_mm", "and", " mm behind the sample"))
    for name, preposition, unit in numbers:
        cells = [(scan.row or {}).get(name, "") for scan in scans]
        if all(cells):
            text += f" {preposition} {_values(map(float, cells), unit)}"
    n_skipped = sum(s.state in NOT_SELECTED for s in campaign.scans)
    verb = "was" if n_skipped == 1 else "were"
    skipped = f"; {_scans(n_skipped)} {verb} skipped" if n_skipped else ""
    names = {scan.name for scan in scans}
    n_failed = sum(s.state is State.FAILED and s.name not in names for s in campaign.scans)
    failed = f"; {_scans(n_failed)} failed" if n_failed else ""
    tomopipe, workflow = (cited.get(name, "") for name in ("tomopipe", "Workflow"))
    how = f"with tomopipe{tomopipe} as a Snakemake workflow{workflow}"
    return f"{text} were processed {how}{skipped}{failed}."


_OF_PREPARED = ("corrections", "minus_log", "darks", "flats", "of_sites", "known")
_FILES, _ROLL_DEG = "\0files", "\0roll"  # what differs from scan to scan, in texts of `_prepared`


def _all_prepared(
    scans: Sequence[ScanRecord], made: Iterable[Provenance], cited: Mapping[str, str]
) -> Iterator[str]:
    """Yield the corrections of each volume, in the same words where options are the same."""
    measured_deg = (s.prediction.roll_deg if s.prediction else None for s in scans)
    texts = dict[str, str]()  # of many scans the same
    groups = dict[str, list[Mapping[str, Any]]]()
    for each, roll_deg in zip(made, measured_deg, strict=True):
        options = {k: each["parameters"][k] for k in _OF_PREPARED if k in each["parameters"]}
        corrections = options["corrections"]
        of = repr((options, corrections.get("roll_deg") == roll_deg))
        if of not in texts:
            texts[of] = _prepared(options, cited, roll_deg)
        groups.setdefault(texts[of], []).append(corrections)
    for text, blocks in groups.items():
        rolls = _values((block.get("roll_deg", 0.0) for block in blocks), "", ".3f")
        files = sorted({str(block.get("shifts")) for block in blocks})
        named = "a file for each scan" if len(files) == len(blocks) else f"{len(files)} files"
        named = files[0] if len(files) == 1 else named
        yield from [text.replace(_ROLL_DEG, rolls).replace(_FILES, named)] * len(blocks)


def _prepared(
    parameters: Mapping[str, Any], cited: Mapping[str, str], measured_deg: float | None = None
) -> str:
    """Describe the corrections of a volume's projections, in their order."""
    block = PreprocessBlock(**parameters["corrections"], minus_log=parameters["minus_log"])
    if block.shift_files:
        block = block.model_copy(update={"shifts": _FILES})
    flats = _FLATS[block.flat_method].format(flat_components=block.flat_components)
    flats += cited.get("Dynamic flats", "") if block.flat_method == "pca" else ""
    stripes, of_sites = block.stripes.method, part(parameters, "of_sites")
    switched_on = block.switched_on
    texts = {
        key: entry.methods.format(block)
        + "".join(cited.get(title, "") for title in _titles(entry, block, key))
        for key, entry in CORRECTIONS.items()
        if key in switched_on
    }
    if block.roll_deg and block.roll_deg == measured_deg:
        texts["roll_deg"] = f"roll of {_ROLL_DEG} degrees measured and corrected"
    divided = ["dark field subtracted"] * (parameters["darks"] != "none")
    divided += [f"divided by {flats}"] * (parameters["flats"] != "none")
    texts[COUNTS] = ", ".join(divided)
    if stripes != "none":
        title = f"Stripes of sinograms: {stripes}"
        texts["stripes"] = _STRIPES.get(stripes, "") + cited.get(title, "")
    for key, entry in of_sites.items():
        package = f" ({entry['package']})"
        texts[key] = entry["methods"] + package + cited.get(f"Correction: {key}", "")
    order = placed(
        (COUNTS, *CORRECTIONS, "stripes"), {key: entry["before"] for key, entry in of_sites.items()}
    )
    n = part(parameters, "known").get("average", 1)
    averaged = [f"projections averaged in groups of {n}"] * (n > 1)
    return ", ".join([*averaged, *filter(None, map(texts.get, order))]) or "nothing was corrected"


def _centres(scans: Sequence[ScanRecord], cited: Mapping[str, str]) -> str:
    texts = []
    for source, n in Counter(scan.source for scan in scans if scan.source).most_common():
        text = _SOURCES.get(source, source)
        if source in ("ai", "auto"):
            predictions = [s.prediction for s in scans if s.source == source and s.prediction]
            names = sorted({entry.method for entry in predictions if entry.method})
            packages = {c.method: c.package for p in predictions for c in p.curves if c.package}
            models = sorted({entry.model.name for entry in predictions if entry.model})
            of_methods = [f"{n} of {packages[n]}" if n in packages else n for n in names]
            named = [f"model {name}" for name in models] if source == "ai" else of_methods
            text += f" ({', '.join(named)})" if named else ""
            text += "".join(cited.get(f"COR: {name}", "") for name in names)
            confidences = [p.confidence for p in predictions if p.confidence is not None]
            text += f", confidence {_values(confidences, '', '.2f')}" if confidences else ""
        if source == "outlier":
            text += cited.get("Outliers of a series", "")
        texts.append(f"{text} in {_scans(n)}")
    return f"The centre of rotation was {'; '.join(texts)}." if texts else ""


def _reconstructed(provenance: Provenance, cited: Mapping[str, str]) -> str:
    parameters, shape = provenance["parameters"], provenance["geometry"]
    name = parameters.get("algorithm", "fbp")
    iterations = parameters.get("iterations") or ITERATIONS.get(name)
    text = _ALGORITHMS[name].format(**(parameters | {"iterations": iterations}))
    text += cited.get("Reconstruction" if name == "fbp" else f"Reconstruction: {name}", "")
    if shape["half_acquisition"]:
        text += ", of 360 degrees with the axis near an edge of the detector (half acquisition)"
        text += cited.get("Half acquisition", "")
    if parameters["binning"] != 1:
        text += f", binned {parameters['binning']} times"
    unit = "per cm" if parameters["unit"] == "per_cm" else "per detector pixel"
    return f"{text}, to attenuation {unit} in {parameters['dtype']}"


def _versions(made: Sequence[Provenance], now: Mapping[str, str]) -> str:
    def named(provenance: Provenance) -> str:
        versions = {"tomopipe": "unknown", **provenance["versions"]}
        parts = [f"{word} {versions[key]}" for key, word in _PARTS.items()
                 if versions.get(key, "unknown") != "unknown"]  # fmt: skip
        return f"tomopipe {versions['tomopipe']} with {', '.join(parts)}"

    return f"Versions: {_some(map(named, made))}; Snakemake {now['snakemake']}."
