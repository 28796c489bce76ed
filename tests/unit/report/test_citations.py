"""What to cite: the methods that were used, and no others."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.report_campaign import USUAL, every_state
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.config.blocks import CHECKPOINT_METHODS, METHODS, FullReconBlock
from tomopipe.config.preprocess import PhaseBlock, StripesBlock
from tomopipe.report.citations import REFERENCES, citations
from tomopipe.report.collected_records import collect
from tomopipe.report.records import ScanRecord
from tomopipe.steps.report import report


def choices(block, key):
    """Return the methods that a key of the config may name."""
    return [name for name in get_args(block.model_fields[key].annotation) if name != "none"]


def scan(*methods, volume=None):
    curves = tuple(Curve(name, 10.0, 0.9, (), ()) for name in methods)
    prediction = Prediction(10.0, 10.0, 0.9, "resolved", methods[0], "", curves)
    records = {"prediction": prediction, "volume": volume}
    return ScanRecord(name="a_1", path="raw/a_1.h5", series="a", index=1, **USUAL, **records)


def cited(*scans, config=None):
    return {
        citation.method: " ".join(citation.references)
        for citation in citations(scans, config or {})
    }


def test_the_methods_used_are_cited_and_no_others(tmp_path):
    made = every_state(tmp_path, plane_px=0).write()
    record = collect(made.campaign())
    found = {
        citation.method: citation.references for citation in citations(record.scans, record.config)
    }
    assert set(found) == {
        *(
            "tomopipe",
            "Workflow",
            "COR: classical",
            "Outliers of a series",
            "Reconstruction",
        ),
    }
    report(made.page, made.campaign())
    section = made.page.read_text(encoding="utf-8").split('id="citing"')[1].split("</section>")[0]
    assert "doi:10.1109/TIP.2011.2181402" in section
    assert "doi:10.12688/f1000research.29032.2" in section
    assert "Azevedo" not in section  # ai was not asked


def test_tomopipe_is_cited_as_it_asks_to_be():
    asked = yaml.safe_load(Path("CITATION.cff").read_text("utf-8"))
    assert f'{asked["authors"][0]["name"]}, "{asked["title"]}"' in cited()["tomopipe"]


@pytest.mark.parametrize(
    "name",
    [
        *(f"COR: {name}" for name in (*METHODS, *CHECKPOINT_METHODS)),
        *(f"Stripes of sinograms: {name}" for name in choices(StripesBlock, "method")),
        *(f"Phase retrieval: {name}" for name in choices(PhaseBlock, "method")),
        *(f"Reconstruction: {name}" for name in choices(FullReconBlock, "algorithm")),
    ],
)
def test_every_choice_of_a_method_says_what_to_cite(name):
    assert name.removesuffix(": fbp") in REFERENCES


def test_preprocessing_is_cited_as_configured():
    config = {"preprocess": {"stripes": {"method": "vo"}, "phase": {"method": "none"}}}
    found = cited(scan("wedge"), config=config)
    assert "Vo et al." in found["Stripes of sinograms: vo"]
    assert "Muench" not in found["Stripes of sinograms: vo"]
    assert "Phase retrieval" not in " ".join(found)
    config["preprocess"] = {
        "phase": {"method": "generalised"},
        "distortion": {"coefficients": [1.0, 1e-6]},
    }
    found = cited(scan("wedge"), config=config)
    assert "Paganin" in found["Phase retrieval: generalised"]
    assert "Opt. Express 23, 32859" in found["Distortion of the lens"]
    assert "Stripes of sinograms" not in " ".join(found)


def test_what_volumes_were_made_with_is_cited_not_what_is_configured_for_most():
    config = {"preprocess": {"stripes": {"method": "sorting"}}, "full_recon": {"algorithm": "tv"}}
    made = [
        {"corrections": {"stripes": {"method": "vo"}}},
        {"corrections": {"phase": {"method": "paganin"}}, "algorithm": "sirt"},
        {"corrections": {"flat_method": "pca"}},
    ]
    volumes: dict = {
        str(index): {"parameters": parameters} for index, parameters in enumerate(made)
    }
    found = citations([scan("wedge", volume=Path("a"))], config, volumes)
    named = {citation.method for citation in found}
    assert {"Stripes of sinograms: vo", "Phase retrieval: paganin", "Dynamic flats"} <= named
    assert "Reconstruction: sirt" in named
    assert "Half acquisition" not in named
    volumes["0"]["geometry"] = {"half_acquisition": True}
    again = citations([scan("wedge", volume=Path("a"))], config, volumes)
    assert (
        "Cho" in {citation.method: citation.references for citation in again}["Half acquisition"][0]
    )
    assert not named & {"Stripes of sinograms: sorting", "Reconstruction: tv"}


def test_an_unknown_method_is_not_cited():
    assert set(cited(scan("../cor", "no such method"))) == {"tomopipe", "Workflow"}
