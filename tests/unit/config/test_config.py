"""The configuration: defaults, refusals that name the key, and the pages made from it."""

import runpy
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tomopipe.config import Config, parse_config, read_config
from tomopipe.config.blocks import InputBlock
from tomopipe.config.parse import OverrideBlock
from tomopipe.errors import TomopipeError

LEAST = {"campaign": {"scans": ["raw/*.h5"]}}
HOME = Path(__file__).parents[3]
FOLDER = HOME / "config"
pages = runpy.run_path(str(HOME / "docs" / "config.py"))["pages"]


def test_block_left_empty_has_its_defaults():
    assert parse_config(LEAST | {"fix_cor": None}) == parse_config(LEAST)


def test_file_of_defaults_is_the_defaults():
    assert read_config(FOLDER / "config.yaml") == parse_config(LEAST)


def test_pages_are_those_made_from_the_code():
    made = pages()
    old = [f"config/{name}" for name, text in made.items() if (FOLDER / name).read_text() != text]
    assert not old, f"`make docs` writes {old}"


def test_every_key_has_a_meaning_and_stands_in_the_pages():
    made = pages()
    defaults = yaml.safe_load(made["config.yaml"])
    for block, field in Config.model_fields.items():
        model = OverrideBlock if block == "overrides" else field.annotation
        for key, option in model.model_fields.items():
            assert option.description, f"{block}.{key}"
            assert f"| {key} |" in made["README.md"]
            assert block == "overrides" or key in defaults[block]
    assert defaults["overrides"] == []


@pytest.mark.parametrize(
    ("block", "options", "words"),
    [
        ("fix_cor", {"max_delta": 3}, ["fix_cor.max_delta", "did you mean max_delta_px"]),
        ("fix_cr", {}, ["fix_cr", "did you mean fix_cor"]),
        ("input", {"energy_kev": 25000}, ["input.energy_kev: ", "25000 keV is impl", "in eV?"]),
        ("fix_cor", {"max_delta_px": "far"}, ["fix_cor.max_delta_px", "'far'", "number"]),
        ("full_recon", {"filter": "shepp"}, ["full_recon.filter", "did you mean shepp-logan"]),
        ("full_recon", {"dtype": "FLOAT32"}, ["got 'FLOAT32'", "did you mean float32"]),
        ("full_recon", {"dtype": "unit8"}, ["did you mean uint8"]),
        ("full_recon", {"dtype": "float"}, ["did you mean float"]),
        (
            "full_recon",
            {"dtype": "float64"},
            ["or 'uint8'; it means: Number type of the volume, which is computed in float32"],
        ),
        ("try_recon", {"device": "gpu"}, ["did you mean cuda"]),
        ("report", {"enabled": "maybe"}, ["report.enabled: got 'maybe'; should be yes or no"]),
        ("full_recon", {"rows": [5, 4]}, ["full_recon.rows", "first <= last"]),
        ("full_recon", {"output": "tiff", "compression": "lz4"}, ["compression", "none or gzip"]),
        ("full_recon", {"binning": "2"}, ["integer; write it into config.yaml, without quotes"]),
        ("inventory", {"series_pattern": "(.*)"}, ["inventory.series_pattern", "two groups"]),
        ("storage", {"sidecars": "of/<day>,2"}, ["storage.sidecars", "must not contain <day>"]),
        ("report", [], ["report: got []; should be a block of these keys: enabled"]),
        ("preprocess", {"shifts_scale": [1]}, ["got [1]; should have at least 2 items; it"]),
        ("full_recon", {"rows": [1, 2, 3]}, ["should be 'all', or should have at most 2 items"]),
        ("campaign", {"scans": ["a", {"glob": "b", "prefx": "c"}]}, ["scans 2.prefx: ", "prefix?"]),
        ("slurm", {"partition": "cpu"}, ["slurm: unknown key", "is in slurm/profile.yaml"]),
        ("campaign", {"scans": [5]}, ["campaign.scans 1: got 5", "{glob: day1/*.h5"]),
        (
            "overrides",
            [{"scans": ["a"]}, {"scan": "b"}],
            ["overrides 2.scan: unknown key; did you mean scans? allowed here: scans, series"],
        ),
    ],
)
def test_refusal_names_key_and_what_is_allowed(block, options, words):
    with pytest.raises(TomopipeError) as error:
        parse_config(LEAST | {block: options}, source="my.yaml")
    assert "my.yaml: " in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("results", ["../elsewhere", "/abs", "a{b}", "."])
def test_results_stay_in_the_campaign(results):
    with pytest.raises(TomopipeError, match=r"campaign\.results"):
        parse_config({"campaign": {"scans": ["a"], "results": results}})


def test_all_problems_are_told_at_once():
    with pytest.raises(TomopipeError) as error:
        parse_config({"fix_cor": {"a": 1, "max_delta_px": -1}, "report": {"enabled": 3}})
    assert len(str(error.value).splitlines()) == 4


def test_numbers_with_an_exponent_are_numbers_as_yaml_reads_them_and_texts_stay_texts():
    written = """
        campaign: {scans: [1e4], results: 1e-4}
        input: {energy_kev: 2e1, skip_angles: [[1e0, 2.5E+1], [30, .4e2]], entry: 1e5}
        preprocess: {stripes: {sigma: 1e-1}, distortion: {coefficients: [1.0, 1e-4, -2.5e-6]}}
        full_recon: {value_range: [-1e-3, 1.0e2]}
        overrides: [{scans: [1e4], preprocess: {flats: 1e3, hardening: [1, 1e-4]}}]
    """
    data = yaml.safe_load(written)
    assert "1e-4" in data["preprocess"]["distortion"]["coefficients"]  # as Snakemake reads it too
    config = parse_config(data)
    assert config.preprocess.distortion.coefficients == [1.0, 1e-4, -2.5e-6]
    assert config.preprocess.stripes.sigma == 0.1
    assert config.input.energy_kev == 20
    assert config.input.skip_angles == [[1, 25], [30, 40]]
    assert config.full_recon.value_range == [-1e-3, 100]
    assert (config.campaign.scans, config.campaign.results) == (["1e4"], "1e-4")
    assert config.input.entry == "1e5"
    preprocess = config.for_scan("1e4", "").preprocess
    assert (preprocess.flats, preprocess.hardening) == ("1e3", [1, 1e-4])


@pytest.mark.parametrize("text", ["1e-4px", "1e999"])
def test_what_only_looks_like_an_exponent_is_refused(text):
    with pytest.raises(TomopipeError, match=r"preprocess\.hardening: got "):
        parse_config(LEAST | {"preprocess": {"hardening": [1.0, text]}})


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("input: {mirrored: no}", "input.mirrored", "no"),
        ("preprocess: {half_acquisition: no}", "preprocess.half_acquisition", "no"),
        ("preprocess: {half_acquisition: yes}", "preprocess.half_acquisition", "yes"),
    ],
)
def test_words_that_yaml_reads_as_true_and_false_are_words(text, key, word):
    block, name = key.split(".")
    given = yaml.safe_load(text)
    assert getattr(getattr(parse_config(LEAST | given), block), name) == word
    override = {"scans": ["a"], **given}
    config = parse_config(LEAST | {"overrides": [override]}).for_scan("a", "")
    assert getattr(getattr(config, block), name) == word


def test_names_of_digits_want_quotes():
    for block in ({"campaign": {"scans": [8]}}, LEAST | {"overrides": [{"scans": [8]}]}):
        with pytest.raises(TomopipeError, match="write names of digits in quotes"):
            parse_config(block)


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(TomopipeError, match="tomopipe init"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("campaign: [")
    with pytest.raises(TomopipeError, match="YAML"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("just text")
    with pytest.raises(TomopipeError, match="expected blocks"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("campaign:\n  name: Zähne\n", encoding="latin-1")
    with pytest.raises(TomopipeError, match=r"config\.yaml: line 2: .*0xe4\. Save it as UTF-8"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"full_recon: {{binning: 1{'0' * 5000}}}", "cannot be read as YAML: Exceeds the limit"),
        ("campaign: !!python/object:os.system {}", "cannot be read as YAML"),
        ("campaign: {scans: " + "[" * 100_000, "cannot be read as YAML"),
        ("campaign:\n  scans: [a", "line 2, column 12"),
        ("campaign:\n\tscans: [a]", "line 2, column 1: "),
        ("campaign:\n\tscans: [a]", "indent with spaces, not tabs"),
        ("campaign: {scans: [*.h5]}", "write patterns in quotes"),
        ("overrides: [{scans: [*_001]}]", "write patterns in quotes"),
        ("overrides: [{scans: [a_00?]}]", "write patterns in quotes"),
        ("campaign: {scans: [a]}\ncampaign: {name: b}", "lines 1 and 2: campaign appears twice"),
        (
            "campaign: {scans: [a]}\nfull_recon: {rows: [010, 0200]}",
            "line 2: YAML reads 010 as 8; write 10 for a number, '010' in quotes for a text",
        ),
        ("a: [-010]", "YAML reads -010 as -8; write 10"),
        ("try_recon: {width_px: 1:30}", "reads 1:30 as 90; '1:30' in quotes for a text"),
        ("try_recon: {width_px: 1:30.5}", "reads 1:30.5 as 90.5; '1:30.5' in"),
        (
            "overrides: [{scans: [a], scans: [b]}]",
            "scans appears twice; write one list with the entries of both: scans: [a, b]",
        ),
        (
            'overrides: [{scans: ["é"], input: {every: 2}}]\noverrides: [{scans: [b]}]',
            'of both: overrides: [{scans: ["é"], input: {every: 2}}, {scans: [b]}]',
        ),
        ("overrides:\n- {scans: [a]}\noverrides: [{scans: [b]}]", "with the entries of both."),
        (
            "campaign: {scans: [a]}\nresolve_cor: {default_px: 85,5}",
            "resolve_cor: got 5; is not a key; if it is part of a number, write a decimal point: "
            "85.5",
        ),
        (
            "campaign: {scans: [a]}\ninput: {distance_mm: 0,08}",
            "input: got 08; is not a key; if it is part of a number, write a decimal point",
        ),
        (
            "campaign: {scans: [a]}\ntry_recon: {width_px: 1e9}",
            "try_recon: width_px 1e+09 in steps of step_px 0.5 are 4e+09 candidates; expected at",
        ),
        ("campaign: {scans: [a]}\ntry_recon: {step_px: 1e-7}", "1e+09 candidates"),
    ],
    ids=[
        *("number", "object", "deep", "open line", "tab", "tabs"),
        *("star", "alias", "question mark", "block", "octal", "minus octal", "base 60", "seconds"),
        *("key", "pasted", "list"),
        *("decimal comma", "comma and zero", "wide sweep", "fine sweep"),
    ],
)
def test_what_no_configuration_is_costs_a_message_with_the_file(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(TomopipeError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)
    assert len(str(error.value)) < 500 + len(str(path))


def test_aliases_that_say_the_same_again_are_of_use(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "campaign: {scans: [raw/*.h5]}\n"
        "overrides:\n"
        "  - &half {scans: [a], try_recon: {center_px: 9, width_px: 3}}\n"
        "  - {<<: *half, scans: [b]}\n"
    )
    config = read_config(path)
    assert [config.for_scan(name, "").try_recon.center_px for name in "abc"] == [9, 9, None]


@pytest.mark.parametrize(
    ("of_all", "of_one", "expected"),
    [
        ({"start": 0, "step": 0.5}, {"start": 0, "stop": 360}, (0, 360, None)),
        ({"start": 5, "stop": 180}, {"step": 0.5}, (5, None, 0.5)),
        ({"start": 5, "stop": 180}, {"stop": 360}, (5, 360, None)),
        ("angles.txt", {"stop": 360}, (0, 360, None)),
    ],
)
def test_the_end_of_angles_of_one_scan_replaces_the_step_of_all(of_all, of_one, expected):
    blocks = {"campaign": {"scans": ["a"]}, "input": {"angles": of_all}}
    override = {"scans": ["a_1"], "input": {"angles": of_one}}
    config = parse_config({**blocks, "overrides": [override]})
    angles = config.for_scan("a_1", "a").input.angles
    assert (angles.start, angles.stop, angles.step) == expected
    with pytest.raises(TomopipeError, match="either stop"):
        parse_config({**blocks, "input": {"angles": {"stop": 1, "step": 1}}})


def test_an_override_is_of_the_scan_that_it_names_whatever_its_name():
    override = {"scans": ["a[1]"], "full_recon": {"binning": 2}}
    config = parse_config(LEAST | {"overrides": [override]})
    found = [config.for_scan(name, "").full_recon.binning for name in ("a[1]", "a1", "a[2]")]
    assert found == [2, 2, 1]


def test_each_method_stands_in_the_docs():
    from tomopipe.cor_methods import METHODS

    rows = (FOLDER.parent / "docs" / "explanation" / "cor.md").read_text().splitlines()
    lacking = [name for name in METHODS if not any(row.startswith(f"| `{name}` |") for row in rows)]
    assert not lacking, f"{lacking}: each has a line in the table of docs/explanation/cor.md"


@pytest.mark.parametrize(
    ("angles", "files"),
    [
        ({"start": 0, "stop": 360}, []),
        ({"start": 90, "step": -0.5}, []),
        ("/entry/my_angles", []),
        ("/data/list.txt", ["/data/list.txt"]),
        ("angles/{scan}.txt", ["angles/{scan}.txt"]),
    ],
)
def test_angles_are_a_range_a_dataset_or_a_file(angles, files):
    config = parse_config({"campaign": {"scans": ["a.h5"]}, "input": {"angles": angles}})
    assert config.named_files() == files


@pytest.mark.parametrize("angles", [{"start": 0}, 5])
def test_angles_that_are_neither_are_refused(angles):
    with pytest.raises(TomopipeError, match=r"input\.angles"):
        parse_config({"campaign": {"scans": ["a.h5"]}, "input": {"angles": angles}})


def test_orders_of_frames_that_mean_the_same_are_equal():
    """Another spelling must not make volumes again."""
    spellings = (
        ["1 dark", "5 flats", "9 projections", "2 invalid"],
        [
            "1 darks",
            "2 flat",
            "3 flats",
            "8  projections",
            "1 projection",
            "1 invalid",
            "1 invalid",
        ],
    )
    found = [InputBlock(frames=spelling).frames for spelling in spellings]
    assert found[0] == found[1] == ["1 darks", "5 flats", "9 projections", "2 invalid"]
    for wrong in (["5 darks", "71 flats"], ["99999999 projections"]):
        with pytest.raises(ValidationError, match="projections"):
            InputBlock(frames=wrong)
