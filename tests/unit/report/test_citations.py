"""What to cite: the methods that were used, and no others."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.corrections import EVERYTHING, RING_CURRENT, SHIFTS, keys_of_corrections
from tests.report_campaign import CONFIG, USUAL, every_state
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import PhaseBlock
from tomopipe.config.step_blocks import FullReconBlock
from tomopipe.config.stripe_filters import StripesBlock
from tomopipe.cor_methods import COR_METHODS
from tomopipe.report import citations as report_citations
from tomopipe.report.citations import (
    REFERENCES,
    citations,
    cited_in_text,
    methods_paragraph,
    reference_lists,
    reference_numbers,
)
from tomopipe.report.collected_records import collect
from tomopipe.report.records import CampaignRecord, ScanRecord
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
    return {name: " ".join(texts) for name, texts in citations(scans, config or {}).items()}


def test_the_methods_used_are_cited_and_no_others(tmp_path):
    made = every_state(tmp_path, plane_px=0).write()
    record = collect(made.campaign())
    found = citations(record.scans, record.config)
    assert set(found) == {
        *("tomopipe", "Workflow", "COR: classical", "Outliers of a series", "Reconstruction")
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
        *(f"COR: {name}" for name in COR_METHODS),
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
    named = set(citations([scan("wedge", volume=Path("a"))], config, volumes))
    assert {"Stripes of sinograms: vo", "Phase retrieval: paganin", "Dynamic flats"} <= named
    assert "Reconstruction: sirt" in named
    assert "Half acquisition" not in named
    volumes["0"]["geometry"] = {"half_acquisition": True}
    again = citations([scan("wedge", volume=Path("a"))], config, volumes)
    assert "Cho" in again["Half acquisition"][0]
    assert not named & {"Stripes of sinograms: sorting", "Reconstruction: tv"}


PLAIN = {
    "geometry": {
        "n_angles": 1501, "n_rows": 1024, "n_cols": 2048, "theta_deg": [0.0, 180.0],
        "half_acquisition": False,
    },
    "parameters": {
        "algorithm": "fbp", "filter": "ramp", "iterations": None, "tv_strength": 0.003,
        "binning": 1, "unit": "per_pixel", "dtype": "float32", "flats": None, "darks": None,
        "minus_log": True, "corrections": {},
    },
    "versions": {"tomopipe": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "zarr": "unknown"},
}  # fmt: skip
EXTRAS = (
    *("phase", "stripes", "zingers", "distortion", "half acquisition", "SIRT", "binned", "hand"),
    *("hardening", "ring current", "rotated", "air", "outlier", "series", "bad detector"),
)


def with_(**more):
    """The provenance of a volume made otherwise."""
    found = copy.deepcopy(PLAIN)
    for name, value in more.items():
        place = "geometry" if name in found["geometry"] else "parameters"
        found[place][name] = value
    return found


def paragraph(*volumes, **more):
    return methods_paragraph(campaign_of(*volumes, **more), named(volumes))


def named(volumes):
    return {f"a_{index}": volume for index, volume in enumerate(volumes)}


def campaign_of(*volumes, sources=(), selects=(), rolls_deg=(), config=CONFIG, curves=()):
    row = {"pixel_size_um": "1.6", "energy_kev": "25", "distance_mm": "150", "keep": "true"}
    prediction = Prediction(1020.0, 1020.0, 0.97, "resolved", "ai", "", curves)
    rolls_deg = dict(enumerate(rolls_deg))
    scans = tuple(
        ScanRecord(
            name=f"a_{index}", path="", series="a", index=index, row=row,
            prediction=replace(prediction, roll_deg=rolls_deg.get(index)),
            source=dict(enumerate(sources)).get(index, "ai"), cor_px=1020.0, volume="there",
            select=dict(enumerate(selects)).get(index, "auto"), **USUAL,
        )
        for index in range(len(volumes))
    )  # fmt: skip
    return CampaignRecord(
        name="", scans=scans, series=(), alerts=(), failures=(), last_job_end=None,
        notes=(), versions={"snakemake": "9.27.1"},
        citations=citations(scans, config, dict(enumerate(volumes))),
    )  # fmt: skip


def test_volumes_of_scans_that_were_taken_out_since_do_not_count():
    text = paragraph(PLAIN, PLAIN, PLAIN, sources=("ai", ""), selects=("auto", "no"))
    assert "2 scans of 1501 projections" in text
    assert "; 1 scan was skipped." in text


def test_scans_that_failed_are_counted():
    campaign = campaign_of(PLAIN, PLAIN)
    failure = JobStatus("predict_cor", "a_1", "failed")
    broken = replace(campaign.scans[1], cor_px=None, volume=None, failures=(failure,))
    text = methods_paragraph(replace(campaign, scans=(campaign.scans[0], broken)), {"a_0": PLAIN})
    assert "; 1 scan failed." in text


def test_a_plain_campaign_and_nothing_that_was_not_done():
    text = paragraph(PLAIN, PLAIN)
    for said in (
        "2 scans of 1501 projections over 180°, of 2048 × 1024 detector pixels of 1.6 µm at 25 keV",
        "dark field subtracted, divided by the mean of the flat fields, negative logarithm taken",
        "confidence 0.97 in 2 scans",
        "filtered back-projection on a Fourier grid (ramp filter) [",
        "attenuation per detector pixel in float32",
        "tomopipe 0.1.0 with NumPy 2.4.6, Python 3.11.7; Snakemake 9.27.1.",
    ):
        assert said in text
    assert not [word for word in EXTRAS if word in text]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"darks": "none", "flats": "none", "minus_log": False}, "nothing was corrected"),
        ({"known": {"average": 4}}, "as follows: projections averaged in groups of 4, dark field"),
        ({"corrections": {"zingers": {"threshold": 0.2}}}, "zingers brighter by 0.2"),
        (
            {"corrections": {"phase": {"method": "paganin", "delta_beta": 250.0}}},
            "phase retrieved (paganin filter of Paganin, delta/beta 250)",
        ),
        ({"half_acquisition": True}, "(half acquisition) ["),
        ({"algorithm": "cgls", "iterations": 7}, "CGLS (7 iterations)"),
        ({"binning": 2, "unit": "per_cm", "dtype": "uint16"}, "binned 2 times, to attenuation per"),
    ],
)
def test_what_was_done_is_named_and_that_alone(more, said):
    made = with_(**more)
    made["geometry"]["half_acquisition"] = more.get("half_acquisition", False)
    text = paragraph(made)
    assert said in text
    others = [word for word in EXTRAS if word in text and word not in said]
    assert not others


def test_the_distance_is_named_where_phase_is_retrieved():
    phase = with_(corrections={"phase": {"method": "paganin"}})
    assert "1.6 µm at 25 keV and 150 mm behind the sample were" in paragraph(phase)
    assert "150 mm" not in paragraph(PLAIN)


SAY_IT = "has no words: `Correction.methods`, or _prepared in tomopipe/report/citations.py"


@pytest.mark.parametrize("key", sorted(keys_of_corrections()))
def test_every_correction_is_spoken_of(key):
    value = (EVERYTHING | RING_CURRENT | SHIFTS)[key]
    text = paragraph(with_(corrections={key: value}))
    assert not text.startswith("Not written"), f"preprocess.{key} {SAY_IT}: {text}"
    assert text != paragraph(PLAIN), f"preprocess.{key} {SAY_IT}"


@pytest.mark.parametrize(
    ("block", "key", "made"),
    [
        (PreprocessBlock, "flat_method", lambda name: {"corrections": {"flat_method": name}}),
        (PhaseBlock, "method", lambda name: {"corrections": {"phase": {"method": name}}}),
        (StripesBlock, "method", lambda name: {"corrections": {"stripes": {"method": name}}}),
        (FullReconBlock, "algorithm", lambda name: {"algorithm": name}),
    ],
)
def test_every_method_has_words_of_its_own(block, key, made):
    names = get_args(block.model_fields[key].annotation)
    texts = {name: paragraph(with_(**made(name))) for name in names}
    lacking = [name for name in names if re.search(r"^Not written|, +[\[,.;]", texts[name])]
    assert not lacking, f"{key} {lacking} {SAY_IT}"
    assert len({*texts.values()}) == len(names)


def test_what_some_scans_alone_have_got_is_said_with_their_number():
    text = paragraph(PLAIN, PLAIN, with_(filter="hann"), sources=("ai", "manual", "outlier"))
    assert "(ramp filter) [" in text
    assert "(2 scans); " in text
    assert "(hann filter)" in text
    assert "set by hand in 1 scan" in text
    assert "replaced as outliers" in text


def test_files_of_shifts_and_measured_rolls_of_a_hundred_scans_take_a_clause_each():
    rolls_deg = [(-1) ** n * (0.2 + n / 100) for n in range(100)]
    shifted = [with_(corrections={"shifts": f"corrections/a_{n}.txt"}) for n in range(100)]
    rolled = [with_(corrections={"roll_deg": deg}) for deg in rolls_deg]
    text = paragraph(*shifted, *rolled, PLAIN, rolls_deg=[None] * 100 + rolls_deg)
    assert text.count("dark field subtracted") == 3
    assert ", shifts of the projections undone as given by a file for each scan (100 scans)" in text
    assert ", roll of -1.190 to 1.180 degrees measured and corrected, negative loga" in text
    assert text.count("(100 scans)") == 2
    assert "negative logarithm taken (1 scan)." in text


def test_a_roll_of_the_config_was_not_measured_and_one_file_is_named():
    both = with_(corrections={"roll_deg": 1.5, "shifts": "corrections/all.txt"})
    text = paragraph(both, both, with_(corrections={"shifts": "stated"}))
    assert "rotated by 1.5° about the beam" in text
    assert "shifts of the projections undone as given by corrections/all.txt (2 scans)" in text
    assert (
        "shifts of the projections undone as given by positions recorded with the scan (1 scan)"
        in text
    )
    assert "measured" not in text


def test_corrections_of_many_scans_are_worded_once(monkeypatch):
    calls, worded = [], report_citations._prepared
    monkeypatch.setattr(
        report_citations, "_prepared", lambda *args: calls.append(args) or worded(*args)
    )
    zingers = with_(corrections={"zingers": {"threshold": 0.2}})
    text = paragraph(*[PLAIN] * 50, *[zingers] * 49)
    assert "(50 scans)" in text
    assert "zingers brighter by 0.2" in text
    assert len(calls) == 2  # thousands took most of the time of a report


def test_numbers_are_those_of_the_references_each_once():
    listed = {"Workflow": ("A",), "COR: ai": ("B", "C"), "COR: sum": ("C", "D")}
    assert reference_numbers(listed) == {"A": 1, "B": 2, "C": 3, "D": 4}
    assert reference_lists(listed) == [
        ("Workflow", [(1, "A")], []),
        ("COR: ai", [(2, "B"), (3, "C")], []),
        ("COR: sum", [(4, "D")], [3]),
    ]
    config = {"preprocess": {"phase": {"method": "paganin"}}}
    text = paragraph(with_(corrections={"phase": {"method": "paganin"}}), config=config)
    assert "processed with tomopipe [1] as a Snakemake workflow [2]." in text
    assert re.search(r"delta/beta \d+\) \[\d+\], negative", text)


def test_without_volumes_and_of_volumes_of_another_kind():
    assert paragraph() == ""
    assert paragraph({"geometry": {}, "parameters": {}, "versions": {}}).startswith("Not written")


def test_the_list_has_what_the_text_cites_and_the_text_what_the_list_has():
    curves = tuple(Curve(name, 1020.0, 0.9, (), ()) for name in ("ai", "classical"))
    volumes = [with_(algorithm="sirt"), with_(corrections={"flat_method": "pca"}, flats="none")]
    for made in (volumes, volumes[:1], volumes[1:]):
        campaign = campaign_of(*made, curves=curves)
        every = campaign.citations
        assert {"COR: ai", "COR: classical", "Reconstruction"} <= every.keys()
        campaign = replace(campaign, citations=cited_in_text(campaign, named(made)))
        text = methods_paragraph(campaign, named(made))
        in_text = {int(n) for each in re.findall(r"\[([\d, ]+)\]", text) for n in each.split(", ")}
        assert in_text == {*reference_numbers(campaign.citations).values()}
        assert "COR: classical" not in campaign.citations
        assert ("Reconstruction" in campaign.citations) == (volumes[1] in made)
    nothing = campaign_of()
    assert cited_in_text(nothing, {}) == nothing.citations
