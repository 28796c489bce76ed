"""What to cite: the methods that were used, from the docstrings of the code, and no others."""

from pathlib import Path

import pytest
import yaml

from tests.report_campaign import USUAL, every_state
from tomopipe.campaign.results import Curve, Model, Prediction
from tomopipe.config import METHODS
from tomopipe.report import citations as module
from tomopipe.report.citations import citations
from tomopipe.report.collected_records import collect
from tomopipe.report.records import ScanRecord
from tomopipe.steps.report import report


def scan(*methods, model=None, volume=None):
    curves = tuple(Curve(name, 10.0, 0.9, (), ()) for name in methods)
    prediction = Prediction(10.0, 10.0, 0.9, "resolved", methods[0], "", curves, model=model)
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
            "COR: registration",
            "COR: wedge",
            "Outliers of a series",
            "Reconstruction",
        ),
    }
    (wedge,) = found["COR: wedge"]
    assert wedge == (
        'N. T. Vo et al., "Reliable method for calculating the center of rotation in '
        'parallel-beam tomography", Opt. Express 22, 19078 (2014).'
    )
    report(made.page, made.campaign())
    section = made.page.read_text(encoding="utf-8").split('id="citing"')[1].split("</section>")[0]
    assert "Opt. Express 22, 19078 (2014)" in section
    assert "Snakemake" in section
    assert "Azevedo" not in section  # mass was not asked


def test_tomopipe_is_cited_as_it_asks_to_be():
    asked = yaml.safe_load((Path(module.__file__).parents[2] / "CITATION.cff").read_text("utf-8"))
    assert f'{asked["authors"][0]["name"]}, "{asked["title"]}"' in cited()["tomopipe"]


@pytest.mark.parametrize("name", METHODS)
def test_every_finder_says_what_to_cite(name):
    assert f"COR: {name}" in cited(scan(name))


@pytest.mark.parametrize(
    "place",
    [
        *(module.TOMOPIPE, module.WORKFLOW, module.OUTLIERS, module.DISTORTION, *module.ENGINE),
        *(module.DYNAMIC_FLATS, module.HALF_ACQUISITION),
        *(*module.FINDERS.values(), *module.STRIPES.values(), *module.PHASE.values()),
    ],
    ids=lambda place: ":".join(map(str, place)),
)
def test_every_place_holds_references(place):
    found = module.references(*place)
    assert found
    assert all(len(text) > 25 and "  " not in text for text in found)


def test_preprocessing_is_cited_as_configured():
    config = {"preprocess": {"stripes": {"method": "titarenko"}, "phase": {"method": "none"}}}
    found = cited(scan("wedge"), config=config)
    assert "Titarenko" in found["Stripes of sinograms: titarenko"]
    assert "Muench" not in found["Stripes of sinograms: titarenko"]
    assert "Phase retrieval" not in " ".join(found)
    config["preprocess"] = {
        "phase": {"method": "generalised"},
        "distortion": {"coefficients": [1.0, 1e-6]},
    }
    found = cited(scan("wedge"), config=config)
    assert "Paganin" in found["Phase retrieval: generalised"]
    assert "distortion" in found["Distortion of the lens"].lower()
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


def test_a_learned_finder_is_cited_as_its_model():
    plain = cited(scan("ai", model=Model("tomopipe", "0" * 64)))
    other = cited(scan("ai", model=Model("dinov2-vit-b", "0" * 64)))
    assert "Ilse" not in plain.get("COR: ai", "")
    assert "Ilse" in other["COR: ai"]


def test_a_name_that_is_no_module_is_not_looked_for():
    assert set(cited(scan("../cor", "no such method"))) == {"tomopipe", "Workflow"}
