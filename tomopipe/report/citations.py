"""Citations of the methods that a campaign used."""

from collections.abc import Iterable, Mapping
from typing import Any

from tomopipe.config.preprocess import STRIPE_FILTERS
from tomopipe.report.records import Citation, ScanRecord
from tomopipe.storage.json_files import part

_AZEVEDO = "S. G. Azevedo et al., IEEE Trans. Nucl. Sci. 37, 1525 (1990), doi:10.1109/23.55866"
_DONATH = "T. Donath et al., J. Opt. Soc. Am. A 23, 1048 (2006), doi:10.1364/JOSAA.23.001048"
_MASKED = "D. Padfield, IEEE Trans. Image Process. 21, 2706 (2012), doi:10.1109/TIP.2011.2181402"
_PAGANIN = "D. Paganin et al., J. Microsc. 206, 33 (2002), doi:10.1046/j.1365-2818.2002.01010.x"
_WEDGE = "N. T. Vo et al., Opt. Express 22, 19078 (2014), doi:10.1364/OE.22.019078"

REFERENCES: Mapping[str, tuple[str, ...]] = {
    "tomopipe": (
        'The tomopipe developers, "tomopipe: centre of rotation and reconstruction of whole '
        'micro-tomography campaigns", software',
    ),
    "Workflow": (
        "F. Mölder et al., F1000Research 10, 33 (2021), doi:10.12688/f1000research.29032.2",
    ),
    "COR: ai": (_MASKED, _WEDGE, _DONATH, _AZEVEDO),
    "COR: dinov2": (
        "M. Ilse et al., ICML (2018), arXiv:1802.04712",
        "X. Tang et al., tomo-center, github.com/xray-imaging/tomo-center",
    ),
    "COR: sum": (_MASKED, _WEDGE, _DONATH, _AZEVEDO),
    "COR: registration": (_MASKED,),
    "Dynamic flats": (
        "V. Van Nieuwenhove et al., Opt. Express 23, 27975 (2015), doi:10.1364/OE.23.027975",
        "C. Jailin et al., J. Synchrotron Rad. 24, 220 (2017), doi:10.1107/S1600577516015812",
    ),
    **{f"Stripes of sinograms: {name}": entry.papers for name, entry in STRIPE_FILTERS.items()},
    "Phase retrieval: paganin": (_PAGANIN,),
    "Phase retrieval: generalised": (
        _PAGANIN,
        "D. M. Paganin et al., J. Opt. 22, 115607 (2020), doi:10.1088/2040-8986/abbab9",
    ),
    "Distortion of the lens": (
        "N. T. Vo et al., Opt. Express 23, 32859 (2015), doi:10.1364/OE.23.032859",
    ),
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
    "Reconstruction: tv": (
        "A. Beck, M. Teboulle, IEEE Trans. Image Process. 18, 2419 (2009), "
        "doi:10.1109/TIP.2009.2028250",
    ),
    "Half acquisition": ("P. S. Cho et al., Phys. Med. Biol. 40, 1863 (1995)",),
}


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
    curves = [c for scan in scans if scan.prediction is not None for c in scan.prediction.curves]
    used = {"tomopipe", "Workflow"}
    used |= {f"COR: {curve.method}" for curve in curves if curve.best_cor_px is not None}
    if has_volume := any(scan.volume is not None for scan in scans):
        used.add("Reconstruction")
        algorithms = stated or [part(config, "full_recon")]
        used |= {f"Reconstruction: {options.get('algorithm')}" for options in algorithms}
        geometries = [part(volume, "geometry") for volume in (volumes or {}).values()]
        if any(geometry.get("half_acquisition") for geometry in geometries):
            used.add("Half acquisition")
    for block in corrections if has_volume or any(scan.prediction for scan in scans) else ():
        used |= {"Dynamic flats"} if block.get("flat_method") == "pca" else set()
        used.add(f"Stripes of sinograms: {part(block, 'stripes').get('method')}")
        used.add(f"Phase retrieval: {part(block, 'phase').get('method')}")
        if part(block, "distortion").get("coefficients"):
            used.add("Distortion of the lens")
    if any(scan.fix is not None and scan.fix.flagged for scan in scans):
        used.add("Outliers of a series")
    return tuple(Citation(name, texts) for name, texts in REFERENCES.items() if name in used)
