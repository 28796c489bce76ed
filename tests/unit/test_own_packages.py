"""Corrections and COR methods of other packages: where they act, and what becomes of faults."""

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from find_rows import curves_of, rows_of

from tests.packages import forget, install_example, write_package
from tests.phantoms import write_scan
from tomopipe import api
from tomopipe.arrays import module_of, on_host
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.commands.check import examine
from tomopipe.config import Block, PreprocessBlock, Region, SiteCorrection, option, parse_config
from tomopipe.config.base import effective, without_effect
from tomopipe.config.site_corrections import of_site
from tomopipe.cor.answer import Answer
from tomopipe.cor.methods import ask, package_record
from tomopipe.cor_methods import CorMethod, method_named
from tomopipe.entry_points import Package
from tomopipe.errors import TomopipeError
from tomopipe.prep import recipe as recipe_module
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.recipe import expected_halo, geometry_only
from tomopipe.report.citations import _prepared, citations
from tomopipe.scans.exchange import open_scan


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the path of Python; what is written into it is installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = {*sys.modules}
    forget()
    yield folder
    for name in {*sys.modules} - before:
        if not name.startswith("tomopipe"):
            del sys.modules[name]
    forget()


@pytest.fixture
def example(tmp_path, monkeypatch, packages):
    monkeypatch.syspath_prepend(install_example(tmp_path))
    return importlib.metadata.version("mybeamline")


def configured(**blocks):
    return parse_config({"campaign": {"scans": ["raw/*.h5"]}, **blocks})


def fault_of(**blocks):
    with pytest.raises(TomopipeError) as caught:
        configured(**blocks)
    return str(caught.value)


# ---- a package with any function: `entry` states it, as `SiteCorrection` ------------------------

PLAIN = "from tomopipe.config import SiteCorrection\nMINE = SiteCorrection(lambda p, o, r: p)\n"


class Options(Block):
    """Two keys."""

    by: float = option(2.0, "Factor.", gt=0)
    n_rows: int = option(0, "Rows around.", ge=0)


class Reserved(Block):
    """A key that statements have."""

    package: str = option("x", "Name.")


class Required(Block):
    """A key without a default."""

    by: float


@pytest.fixture
def mine(packages):
    """Return the recipe whose correction `mine` of the package `own` is what is stated."""
    write_package(packages, "own", PLAIN, corrections={"mine": "MINE"})

    def make(function, others=None, options=None, keys=Options, **stated):
        forget()
        import own

        own.MINE = SiteCorrection(function, keys, **stated)
        return PreprocessBlock(mine=options or {}, **(others or {}))

    return make


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "a.h5"
    write_scan(path, n_rows=12, n_cols=24, n_angles=31, counts=1e4)
    with open_scan(path) as opened:
        yield opened


def lines(scan, recipe, rows=(0, 12), threads=1):
    corrections = corrections_of(scan, recipe)
    raw = scan.read_rows(*corrections.rows_needed(rows))
    return corrections.sinograms(raw, rows, threads=threads)


def scaled(values, options, region):
    return values * np.float32(options.by)


def test_its_place_is_where_it_says(scan, mine):
    """A factor of 2: of counts, also of flats and darks, nothing; of transmission log 2."""
    plain = lines(scan, PreprocessBlock())
    assert lines(scan, mine(scaled, before="flats")) == pytest.approx(plain, abs=1e-5)
    of_transmission = lines(scan, mine(scaled, before="minus_log"))
    assert of_transmission == pytest.approx(plain - np.log(2), abs=1e-5)
    import own

    own.scaled = scaled
    assert np.array_equal(lines(scan, mine("own:scaled", before="minus_log")), of_transmission)
    for before in ("hardening", "stripes", "slices"):
        assert lines(scan, mine(scaled, before=before)) == pytest.approx(2 * plain, abs=1e-5)


def test_lost_counts_come_back(tmp_path, example):
    """A detector that loses 20 % at full beam; the example restores attenuation to 1e-4."""
    rng, loss = np.random.default_rng(3), 2e-6
    true = rng.uniform(2e4, 9e4, (7, 4, 16))
    flats, darks = np.full((3, 4, 16), 1e5), np.full((3, 4, 16), 100.0)
    measured = [n - loss * n**2 for n in (true, flats, darks)]
    expected = api.correct(true, flats, darks)
    assert np.abs(api.correct(*measured) - expected).max() > 0.05
    found = api.correct(*measured, linearity={"loss": loss})
    assert np.abs(found - expected).max() < 1e-4


def around(values, options, region):
    """The mean of so many rows around each; of the scan's rows at its edges."""
    n, rows = options.n_rows, values.shape[1]
    padded = np.pad(values, ((0, 0), (n, n), (0, 0)), mode="edge")
    windows = [padded[:, i : i + rows] for i in range(2 * n + 1)]
    return np.mean(windows, axis=0, dtype=np.float32)


@pytest.mark.parametrize("before", ["flats", "phase"])
@pytest.mark.parametrize("rows", [(0, 3), (5, 6), (8, 12)])
def test_rows_around_are_there_so_that_any_rows_equal_the_whole(scan, mine, before, rows):
    recipe = mine(
        around, options={"n_rows": 2}, before=before, rows_around=lambda options: options.n_rows
    )
    whole = lines(scan, recipe)
    assert np.abs(whole - lines(scan, PreprocessBlock())).max() > 1e-3
    assert lines(scan, recipe, rows, threads=2) == pytest.approx(whole[slice(*rows)], abs=1e-5)
    assert expected_halo(recipe, 12, 24, {}) == 2


def test_it_is_told_which_part_it_gets(scan, mine):
    seen = []

    def note(values, options, region):
        seen.append((values.shape, region))
        return values

    corrections = corrections_of(scan, mine(note, before="phase", rows_around=1))
    corrections.projections(scan.read_block((3, 7), (4, 8)), (3, 7), (5, 7))
    (shape, region), = seen  # fmt: skip
    assert shape == (4, 4, 24)
    assert region[:3] == ((3, 7), (4, 8), (0, 24))
    assert region.theta_rad == pytest.approx(scan.theta_rad[3:7])
    lines(scan, mine(note, before="slices"), (4, 6))
    assert seen[-1][0] == (31, 1, 24)  # all angles of a row
    assert sorted(region.rows for _, region in seen[1:]) == [(4, 5), (5, 6)]


def test_one_that_moves_pixels_is_needed_by_the_cor_and_no_other_is(mine):
    assert geometry_only(mine(scaled)) == PreprocessBlock()
    moving = mine(scaled, moves=True)
    assert geometry_only(moving) == moving
    assert not moving.is_plain


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("before", ["flats", "minus_log", "slices"])
def test_a_gpu_gives_its_arrays_where_they_are_taken(xp, scan, mine, on_gpu, before):
    modules = set()

    def noting(values, options, region):
        modules.add(module_of(values))
        return values * values.dtype.type(2)

    corrections = corrections_of(scan, mine(noting, before=before, on_gpu=on_gpu))
    raw = scan.read_rows(0, 12)
    expected = corrections.sinograms(raw, (0, 12))
    modules.clear()
    result = corrections.sinograms(xp.asarray(raw), (0, 12))
    assert isinstance(result, xp.ndarray)
    assert on_host(result) == pytest.approx(expected, abs=1e-5)
    assert modules == {xp if on_gpu else np}


# ---- faults --------------------------------------------------------------------------------------


def fails(values, options, region):
    raise KeyError("table")


def hangs(values, options, region):
    import time

    for _ in range(300):  # longer than its time limit
        time.sleep(0.01)


FAULTS = {
    "KeyError: 'table'": fails,
    "no result after 0.3 s": hangs,
    "expected the shape that it was given, (31, 12, 24), got (31, 12, 23)": (
        lambda p, o, r: p[:, :, 1:]
    ),
    "expected float32, got float64": lambda p, o, r: p.astype(float),
    "expected numpy.ndarray, got list": lambda p, o, r: p.tolist(),
    "values that it returned are NaN or infinite": lambda p, o, r: p * np.float32(np.nan),
    "372 of 8928 values that": lambda p, o, r: np.where(np.arange(24) == 3, np.float32(np.inf), p),
    "SystemExit": lambda p, o, r: sys.exit(3),
}


@pytest.mark.parametrize("expected", FAULTS, ids=lambda text: text[:20])
def test_a_fault_names_package_and_options(scan, mine, expected):
    recipe = mine(FAULTS[expected], options={"by": 3.0}, time_limit_s=0.3)
    with pytest.raises(TomopipeError) as caught:
        lines(scan, recipe)
    assert expected in str(caught.value)
    assert "preprocess.mine, {'by': 3.0, 'n_rows': 0}, of own 2.0" in str(caught.value)


@pytest.mark.parametrize("words", ["scaled by {0.width:g}", "scaled by {by}", "by {0.by:zz}"])
def test_words_that_cannot_be_formatted_are_named_before_a_slice_is_made(scan, mine, words):
    with pytest.raises(TomopipeError) as caught:
        lines(scan, mine(scaled, methods=words))
    assert f"of own 2.0: methods: {words!r}: " in str(caught.value)


STUCK = """
import re, sys
from tomopipe import entry_points
from tomopipe.campaign.log import log_to

def stuck(text):
    return re.match("(a|a)*b", text)  # twice as long for each letter, without a pause

entry_points.STUCK_S = 0.5
with log_to(sys.argv[1]):
    assert entry_points.call("own 2.0", 0.1, stuck, "ab")
    print("first")
    entry_points.call("own 2.0", 0.1, stuck, 200 * "a")
"""


def test_code_that_keeps_the_lock_of_python_ends_its_job(tmp_path):
    log = tmp_path / "logs" / "a_1.log"
    words = [sys.executable, "-c", STUCK, str(log)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "first\n"), done.stderr
    text = log.read_text()
    assert text.count("calling own 2.0, for at most 0.1 s") == 1
    assert re.search(r'File "<string>", line \d+ in stuck', text)


def test_the_first_call_that_hangs_ends_the_others(scan, mine):
    """Else a scan would wait for the time limit of each of its rows."""
    rows = []

    def hanging(values, options, region):
        rows.append(region.rows)
        hangs(values, options, region)

    with pytest.raises(TomopipeError, match=r"no result after 0.2 s"):
        lines(scan, mine(hanging, before="slices", time_limit_s=0.2), threads=2)
    assert len(rows) <= 6  # of 12; 2 at a time


def test_lack_of_memory_is_no_fault_of_the_package(scan, mine):
    """Another attempt gets more."""

    def lacking(values, options, region):
        raise MemoryError

    with pytest.raises(MemoryError):
        lines(scan, mine(lacking))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"before": "minuslog"}, "before: expected one of flats, bad_pixels, "),
        ({"before": "roll_deg"}, "before: expected one of"),  # done with the distortion
        ({"before": "slices", "rows_around": 1}, "rows_around: expected 0 before slices"),
        ({"before": "flats", "moves": True}, "moves: expected false before flats"),
        ({"keys": Reserved}, "options: package is taken"),
        ({"keys": Required}, "options: by: expected a default"),
        ({"keys": dict}, "options: expected a subclass of tomopipe.config.Block"),
        ({"function": 3}, "function: expected a function or module:name, got 3"),
        ({"papers": "M. Mine (2026)"}, "papers: expected a tuple of texts"),
    ],
)
def test_what_a_package_states_is_checked(mine, stated, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        mine(**{"function": scaled} | stated)
    assert "own 2.0" in str(caught.value)


# ---- configuration -------------------------------------------------------------------------------


def test_keys_and_values_are_checked_as_ours(example):
    text = fault_of(preprocess={"linearity": {"los": 1}, "air_px": "x"})
    assert "preprocess.linearity.los: unknown key; did you mean loss?" in text
    assert "preprocess.air_px: got 'x'" in text
    text = fault_of(preprocess={"linearity": {"loss": -1}})
    assert "preprocess.linearity.loss: got -1; should be greater than or equal to 0" in text
    assert "it means: Share of the counts" in text
    assert "block of these keys: loss" in fault_of(preprocess={"linearity": 3})
    assert "did you mean linearity?" in fault_of(preprocess={"linarity": {}})
    text = fault_of(preprocess={"linearity": {}, "flat_method": "pca"})
    assert "linearity of mybeamline 1.0 corrects counts" in text


def test_what_is_not_installed_is_named_with_what_to_do(packages):
    text = fault_of(preprocess={"linearity": {}}, predict_cor={"methods": ["mirrored"]})
    assert "preprocess.linearity: unknown key" in text
    assert "predict_cor.methods" in text
    assert "should be 'ai', 'classical' or 'dinov2'" in text
    assert text.count("install that in this environment") == 2


def test_a_package_that_cannot_be_imported_matters_where_it_is_used(packages):
    write_package(packages, "own", "import nowhere", corrections={"mine": "MINE"})
    assert configured().preprocess.is_plain
    text = fault_of(preprocess={"mine": {}})
    assert text.count("own 2.0") == text.count("No module named 'nowhere'") == 1
    assert "preprocess.mine" in text


def test_a_name_of_two_packages_names_both(packages):
    for name in ("one", "two"):
        write_package(packages, name, PLAIN, corrections={"mine": "MINE"})
    text = fault_of(preprocess={"mine": {}})
    assert "one 2.0 and two 2.0" in text.replace("two 2.0 and one 2.0", "one 2.0 and two 2.0")


@pytest.mark.parametrize("key", ["copy", "_own", "model_config", "switched_on"])
def test_a_name_that_cannot_be_a_key_is_refused_with_its_package(packages, key):
    write_package(packages, "own", PLAIN, corrections={key: "MINE"})
    assert f"preprocess: {key} of own 2.0 cannot be a key" in fault_of(preprocess={key: {}})


def test_check_names_packages_and_what_has_a_name_of_ours(tmp_path, packages, example, scan):
    from tests.unit.conftest import small_campaign
    from tomopipe.campaign.campaign import load_campaign

    write_package(packages, "own", PLAIN, corrections={"zingers": "MINE"})
    options = "preprocess: {linearity: {}}\npredict_cor: {methods: [mirrored]}"
    small_campaign(tmp_path, options=options)
    findings = examine(load_campaign(tmp_path))
    assert "preprocess.linearity: before flats, of mybeamline 1.0" in findings.notes
    assert "predict_cor.methods: mirrored, of mybeamline 1.0" in findings.notes
    (warning,) = [text for text in findings.warnings if "zingers" in text]  # a run can start
    assert "tomopipe" in warning
    assert "own 2.0" in warning


def test_packages_are_looked_for_only_where_a_name_is_not_ours(packages, monkeypatch):
    def refuse(**_):
        raise LookupError("looked for entry points")

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    config = configured(
        preprocess={"zingers": {"threshold": 0.2}}, predict_cor={"methods": ["ai", "classical"]}
    )
    assert effective(config.preprocess)
    assert [*without_effect(config)] == []
    with pytest.raises(LookupError):
        configured(preprocess={"mine": {}})


def test_what_results_state_of_it(mine):
    """Options, package and revision decide; a version does not."""
    stated = effective(mine(scaled))
    assert stated == {"mine": {"package": "own, revision 1"}}
    assert effective(mine(scaled, options={"by": 2.0})) == stated
    assert effective(mine(scaled, options={"by": 3.0}))["mine"]["by"] == 3
    assert effective(mine(scaled, revision=2))["mine"] == {"package": "own, revision 2"}
    again = PreprocessBlock.model_validate_json(mine(scaled).model_dump_json(exclude_defaults=True))
    assert again == mine(scaled)
    assert PreprocessBlock(mine=None) == PreprocessBlock()


def test_an_override_switches_it_on_for_some_scans_and_off_for_others(example):
    overrides = [
        {"scans": ["b"], "preprocess": {"linearity": {"loss": 3e-6}}},
        {"scans": ["c"], "preprocess": {"linearity": None}},
    ]
    config = configured(preprocess={"linearity": {}}, overrides=overrides)
    losses = [
        getattr(config.for_scan(scan, "").preprocess, "linearity", None) for scan in ("a", "b", "c")
    ]
    assert [loss and loss.loss for loss in losses] == [1e-6, 3e-6, None]
    wrong = [{"scans": ["b"], "preprocess": {"linearity": {"los": 1}}}]
    assert "overrides 1: preprocess.linearity.los: unknown" in fault_of(overrides=wrong)


# ---- methods of COR finding ----------------------------------------------------------------------


def test_dinov2_comes_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="tomopipe.cor_methods", name="dinov2")
    assert entry.load() is method_named("dinov2").method
    assert method_named("dinov2").package is None  # which needs no name
    assert effective(configured().predict_cor) == {}


def test_a_method_of_a_package_answers(example):
    theta_deg = np.linspace(0, 180, 31)
    swing_px = 50.3 + 20 * np.cos(np.deg2rad(theta_deg + 30))
    disks = np.exp(-((np.arange(100) - swing_px[:, None]) ** 2) / 50)
    curves = curves_of(rows_of(np.repeat(disks[:, None], 4, axis=1), theta_deg))
    answer = ask("mirrored", curves, np.arange(40.0, 60.5, 0.5))
    assert answer.best_cor_px == pytest.approx(50.3, abs=0.01)
    without = curves_of(replace(curves.prepared.rows, pairs=curves.prepared.rows.pairs[:0]))
    assert ask("mirrored", without, np.arange(40.0, 60.5, 0.5)).verdict == "flat"
    decision = api.find_cor(
        np.repeat(disks[None], 4, axis=0),
        theta_deg,
        center_px=50,
        width_px=20,
        methods=["mirrored"],
    )
    assert decision.cor_px == answer.best_cor_px
    block = configured(predict_cor={"methods": ["mirrored"]}).predict_cor
    assert effective(block)["packages"] == {"mirrored": "mybeamline, revision 1"}
    assert package_record("mirrored")["package"] == "mybeamline 1.0"


ANSWER = Answer("", 50.0, 0.9, "resolved", "", np.arange(3.0), np.zeros(3))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (50.0, "expected a tomopipe.cor.answer.Answer, got float"),
        (replace(ANSWER, verdict="fine"), "got 'fine'"),
        (replace(ANSWER, best_cor_px=None), "got None"),
        (replace(ANSWER, best_cor_px="50"), "a number from 0 to 99 (the detector), got '50'"),
        (replace(ANSWER, best_cor_px=np.nan), "got nan"),
        (replace(ANSWER, best_cor_px=-0.1), "from 0 to 99 (the detector), got -0.1"),
        (replace(ANSWER, best_cor_px=99.5, verdict="edge"), "got 99.5"),
        (replace(ANSWER, best_cor_px=np.float32(50.3), confidence=2.0), "got 2.0"),
        (replace(ANSWER, confidence="high"), "a confidence from 0 to 1, got 'high'"),
        (
            replace(ANSWER, curve_score=np.zeros(2)),
            "of one shape (n,), of numbers, got (3,) of float64, (2,) of",
        ),
        (
            replace(ANSWER, curve_score=np.array(["a", "b", "c"])),
            "of numbers, got (3,) of float64, (3,) of <U1",
        ),
        (replace(ANSWER, curve_cor_px=np.zeros((2, 3)), curve_score=np.zeros((2, 3))), "(2, 3)"),
    ],
)
def test_an_answer_is_checked(packages, result, expected):
    with pytest.raises(TomopipeError) as caught:
        answer_of(packages, result)
    assert expected in str(caught.value)
    assert "the method mine of own 2.0" in str(caught.value)


def answer_of(packages, result):
    text = "from tomopipe.cor_methods import CorMethod\nM = CorMethod('own', 'find')\n"
    write_package(packages, "own", text, cor_methods={"mine": "M"})
    import own

    own.find = lambda curves, candidates_px: result
    curves = curves_of(rows_of(np.ones((31, 4, 100)), np.linspace(0, 180, 31)))
    return ask("mine", curves, np.arange(3.0))


def test_a_confidence_of_a_network_can_be_written_as_json(packages):
    answer = answer_of(packages, replace(ANSWER, confidence=np.float32(0.75)))
    assert json.dumps(round(answer.confidence, 4)) == "0.75"


def test_a_function_that_a_module_has_not_is_named(packages):
    text = "from tomopipe.cor_methods import CorMethod\nM = CorMethod('own', 'fnid')\n"
    write_package(packages, "own", text, cor_methods={"mine": "M"})
    curves = curves_of(rows_of(np.ones((31, 4, 100)), np.linspace(0, 180, 31)))
    with pytest.raises(TomopipeError, match=r"mine of own 2.0: the module own has no .* fnid"):
        ask("mine", curves, np.arange(3.0))


def test_what_is_no_method_is_refused(packages):
    write_package(packages, "own", "M = 3", cor_methods={"mine": "M"})
    assert "own 2.0: expected a tomopipe.cor_methods.CorMethod, got int" in fault_of(
        predict_cor={"methods": ["mine"]}
    )
    assert CorMethod("m", "f").time_limit_s > 0


# ---- report --------------------------------------------------------------------------------------


def test_the_report_tells_package_and_papers_without_the_package(mine):
    """From what volume and prediction recorded."""
    recipe = mine(scaled, methods="scaled by {0.by:g}", papers=("M. Mine (2026)",), before="phase")
    described = of_site("mine").described(recipe.mine)
    parameters = {
        "corrections": {"air_px": 2}, "minus_log": True, "flats": None, "darks": None,
        "of_sites": {"mine": described},
    }  # fmt: skip
    text = _prepared(parameters, {"Correction: mine": " [7]"})
    order = "columns of air at both edges, scaled by 2 (own 2.0) [7], negative logarithm taken"
    assert order in text
    parameters["of_sites"]["mine"]["before"] = "flats"
    assert _prepared(parameters, {}).startswith("scaled by 2 (own 2.0), dark field subtracted")
    assert Package("own", "2.0") == of_site("mine").package

    from tests.report_campaign import USUAL
    from tomopipe.report.records import ScanRecord

    curve = Curve("their", 10.0, 0.9, (), (), "them 1.0", ("T. Them (2025)",))
    prediction = Prediction(10.0, 10.0, 0.9, "resolved", "their", "", (curve,))
    more = {"prediction": prediction, "volume": None}
    scans = [ScanRecord(name="a_1", path="a_1.h5", series="a", index=1, **USUAL, **more)]
    cited = citations(scans, {}, {"a_1": {"parameters": parameters}})
    assert cited["COR: their"] == ("T. Them (2025)",)
    assert cited["Correction: mine"] == ("M. Mine (2026)",)
    assert recipe_module.geometry_only(recipe) == PreprocessBlock()
    assert Region((0, 1), (0, 1), (0, 1), ()).frames == (0, 1)
