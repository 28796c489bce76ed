"""`tomopipe check`: what it finds in config, table, data, disk and on a cluster."""

import os

import h5py
import numpy as np
import pytest
from nxtomo_files import KEYS, PROJECTIONS, number, write_nxtomo
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.rights import heeding
from tests.unit.conftest import configure, init, small_campaign
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.selection import table_faults
from tomopipe.campaign.slurm import sinfo
from tomopipe.cli import cli
from tomopipe.commands import check
from tomopipe.commands.next_run import make_plan
from tomopipe.config import for_one_scan
from tomopipe.errors import TomopipeError, fault_lines
from tomopipe.report.collected_records import collect_scans
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.settle import expected_inventory
from tomopipe.reruns.target import Target
from tomopipe.resources.disk import shown_size
from tomopipe.run import launch
from tomopipe.storage import lock
from tomopipe.storage.processes import named


def test_check_shows_the_datasets_of_a_file_that_is_not_recognised_and_the_key(site):
    with h5py.File(site / "odd_1.h5", "w") as file:
        file["entry/frames"] = np.zeros((5, 3, 4), "u2")
        file["entry/angle"] = np.arange(5.0)
        file["entry/raw"] = h5py.ExternalLink("gone.h5", "/data")
    assert init(site / "c", site / "odd_1.h5").exit_code == 0
    status, shown = run_check(site / "c")
    assert status == 1
    assert "or input.paths to name its datasets (data, angles, and image_key or flats and" in shown
    assert "it has /entry/frames (5, 3, 4), /entry/angle (5,); /entry/raw is a link to" in shown
    config = (site / "c" / "config.yaml").read_text()
    keys = "input: {paths: {data: /entry/frames, angles: /entry/angle}}\n"
    options = keys + "preprocess: {flats: none, darks: none}\n"
    (site / "c" / "config.yaml").write_text(config + options)
    assert not check.examine(load_campaign(site / "c")).errors


def test_a_reason_is_named_once_though_datasets_differ_in_size(site):
    for n in (1, 2, 3):
        with h5py.File(site / f"odd_{n}.h5", "w") as file:
            file["entry/frames"] = np.zeros((4 + n, 3, 4), "u2")
    assert init(site / "c", site / "odd_*.h5").exit_code == 0
    status, shown = run_check(site / "c")
    assert (status, shown.count("no /exchange/data and no NXtomo entry")) == (1, 1), shown
    assert "warning: 3 scans (odd_1, odd_2, odd_3): skipped: no /exchange/data" in shown
    assert "it has /entry/frames (5, 3, 4) and others error: none of 3 scans" in shown


def test_lines_of_scans_combine_what_is_equal_but_for_their_names():
    faults = [("raw/a.h5: cut", "a"), ("raw/b.h5: cut", "b"), ("a, b are parts", "a")]
    faults += [("a, b are parts", "b"), ("12 files of .edf", "edf"), ("12 files of .png", "png")]
    assert fault_lines(faults) == [
        "2 scans (a, b): raw/{scan}.h5: cut",
        "2 scans (a, b): a, b are parts",
        "edf: 12 files of .edf",
        "png: 12 files of .png",
    ]
    faults = [("data has (0, 4); darks (5, 4)", "a"), ("data has (3, 4); darks (5, 4)", "b")]
    assert fault_lines(faults) == ["2 scans (a, b): data has (0, 4) and others; darks (5, 4)"]


def test_advice_on_several_scans_and_on_flats_of_one_can_be_copied_into_the_configuration():
    """Flats of one scan that are set for all would replace those of the others."""
    flats = "none; set preprocess.flats to a file that has them, or to none if so"
    folders = 'set preprocess: {flats: "/data/ob", darks: "/data/dc"}; or move'
    advice = {"s_1": flats, "s_2": flats, "t_1": folders, "t_2": folders}
    lines = fault_lines((for_one_scan(text, scan), scan) for scan, text in advice.items())
    line = 'set overrides: [{scans: ["s_1", "s_2"], preprocess: {flats: FILE}}] with a FILE that'
    assert lines[0] == f"2 scans (s_1, s_2): none; {line} has them, or none if so"
    line = 'scans: ["t_1", "t_2"], preprocess: {flats: "/data/ob", darks: "/data/dc"}'
    assert lines[1] == f"2 scans (t_1, t_2): set overrides: [{{{line}}}]; or move"


def test_time_points_of_a_file_are_no_lost_file_and_a_part_is_named_as_a_scan(site):
    write_scan(site / "raw" / "a_1.h5", n_rows=2, n_cols=32, theta_deg=np.arange(0, 400, 9.0))
    assert init(site / "c", site / "raw" / "a_1.h5").exit_code == 0
    campaign = load_campaign(site / "c")
    campaign.results.mkdir(exist_ok=True)
    expected_inventory(campaign, campaign.results)
    scans = f"[{{glob: {site}/raw/a_1.h5, turns: 180}}]"
    (site / "c" / "config.yaml").write_text(f"campaign: {{scans: {scans}}}\n")
    _, shown = run_check(site / "c")
    assert "2 scans (a_1@t0000, a_1@t0001)" in shown
    assert "missing since the last run" not in shown
    assert "warning: a_1@t0002: 45 of 180 degrees so far" in shown
    expected_inventory(load_campaign(site / "c"), campaign.results)
    (site / "raw" / "a_1.h5").rename(site / "raw" / "b_1.h5")
    text = (site / "c" / "config.yaml").read_text()
    (site / "c" / "config.yaml").write_text(text.replace("a_1.h5", "b_1.h5"))
    _, shown = run_check(site / "c")
    assert f"warning: {site}/raw/a_1.h5: missing since the last run" in " ".join(shown.split())


def test_raw_files_are_read_once_the_inventory_is_out_of_date(site):
    """As in a run, which reads a file of another time again."""
    write_scan(site / "raw" / "a_1.h5", n_rows=2, n_cols=32, n_angles=20)
    assert init(site / "c", site / "raw" / "a_1.h5").exit_code == 0
    campaign = load_campaign(site / "c")
    campaign.results.mkdir(exist_ok=True)
    expected_inventory(campaign, campaign.results)
    receipts = Receipts(campaign.directory, campaign.outputs)
    statement = Target(campaign).statement("inventory")
    receipts.write("inventory", "campaign", statement, [campaign.outputs.inventory])
    receipts.save()
    raw, state = site / "raw" / "a_1.h5", os.stat(site / "raw" / "a_1.h5")
    raw.write_bytes(bytes(state.st_size))
    os.utime(raw, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert warnings(site / "c", "skipped") == []
    os.utime(raw, (1, 1))
    assert len(warnings(site / "c", "skipped")) == 1


def test_shifts_that_an_option_undoes_are_no_warning(site):
    """Of one scan by an override; how far the stage goes towards the source stays."""

    def change(entry):
        for name in ("x_translation", "y_translation"):
            positions_m = np.zeros(len(KEYS))
            positions_m[PROJECTIONS] = 5e-6 * np.arange(6)
            number(entry["sample"], name, positions_m, "m")

    (site / "raw").mkdir()
    for n in (1, 2):
        write_nxtomo(site / "raw" / f"a_{n}.nx", change=change)
    assert init(site / "c", site / "raw" / "*.nx").exit_code == 0
    with (site / "c" / "config.yaml").open("a") as file:
        file.write("overrides: [{scans: [a_1], preprocess: {shifts: stated}}]\n")
    x, y = (warnings(site / "c", f"/{axis}_translation: the sample moves by") for axis in "xy")
    assert [line.partition(":")[0] for line in x + y] == ["a_2", "a_1", "a_2"]
    campaign = load_campaign(site / "c")
    campaign.results.mkdir(exist_ok=True)
    expected_inventory(campaign, campaign.results)
    moves = [sum("moves by" in text for text in s.warnings) for s in collect_scans(campaign)]
    assert moves == [1, 2]


def test_scans_without_the_translations_that_shifts_need_are_named(site):
    def change(entry):
        number(entry["sample"], "x_translation", np.zeros(len(KEYS)), "m")

    (site / "raw").mkdir()
    write_nxtomo(site / "raw" / "a_1.nx", change=change)
    for n in (2, 3):
        write_nxtomo(site / "raw" / f"a_{n}.nx")
    assert init(site / "c", site / "raw" / "*.nx").exit_code == 0
    assert run_check(site / "c")[0] == 0
    with (site / "c" / "config.yaml").open("a") as file:
        file.write("preprocess: {shifts: stated}\n")
    status, shown = run_check(site / "c")
    assert status == 1
    assert "error: 2 scans (a_2, a_3): " in shown
    assert "{scan}.nx: preprocess.shifts: stated: expected x_translation or z_tr" in shown


def run_check(folder):
    done = CliRunner().invoke(cli, ["check", str(folder)])
    return done.exit_code, " ".join(done.output.split())


def warnings(folder, word=""):
    """Return what is warned of with this word in it."""
    return [line for line in check.examine(load_campaign(folder)).warnings if word in line]


@pytest.fixture
def small_queue(site, monkeypatch):
    """A cluster that ends each job after ten minutes."""
    tools = {"sacctmgr": "#!/bin/sh\n", "sinfo": "#!/bin/sh\necho 'short*|10:00'\n"}
    for name, text in tools.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(site), prepend=os.pathsep)
    sinfo.cache_clear()
    yield site
    sinfo.cache_clear()


def test_a_missing_file_is_named_with_its_path(site):
    write_scan(site / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=31)
    (site / "config.yaml").write_text("campaign: {scans: [raw/a_1.h5, raw/a_2.h5]}\n")
    (line,) = warnings(site, "a_2")
    assert "no such file: raw/a_2.h5" in line


def test_the_blank_at_the_end_of_a_series_is_shown(site):
    options = "overrides: [{series: [Sample A], input: {every: 2}}]"
    small_campaign(site, "Sample A 1", options=options)
    with pytest.raises(TomopipeError, match="did you mean 'Sample A '"):
        load_campaign(site)


def test_options_that_others_leave_without_effect_are_named(site):
    options = "preprocess: {phase: {delta_beta: 500}, zingers: {size_px: 5}}\n"
    small_campaign(site, options=options + "full_recon: {filter: ramp}")
    assert warnings(site, "effect") == [
        "preprocess.zingers.size_px: 5 has no effect: preprocess.zingers.threshold is null",
        "preprocess.phase.delta_beta: 500.0 has no effect: preprocess.phase.method is none",
    ]
    configure(site, options + "overrides: [{scans: [a_1], preprocess: {phase: {method: paganin}}}]")
    assert warnings(site, "effect") == []


@pytest.mark.slow
def test_names_are_shown_as_they_are(tmp_path):
    small_campaign(tmp_path, "a[b]_1")
    (tmp_path / "raw" / "a:b.h5").touch()
    status, shown = run_check(tmp_path)
    assert status == 0
    assert "a:b: skipped: empty file" in shown
    assert " a[b] 1 1 0 " in shown


def test_a_folder_for_scratch_files_that_is_not_there_is_an_error(site):
    small_campaign(site, options="storage: {scratch: none/here}")
    assert "none/here is no folder" in " ".join(check.examine(load_campaign(site)).errors)
    (site / "slurm").mkdir()
    (site / "slurm" / "profile.yaml").write_text("jobs: 1\n")
    found = check.examine(load_campaign(site))  # nodes may have it
    assert found.errors == []
    assert "perhaps not on nodes: storage.scratch: none/here" in " ".join(found.warnings)


def test_what_slurm_does_not_have_is_refused_before_a_run_waits_for_it(small_queue, monkeypatch):
    sacctmgr = "#!/bin/sh\n[ $4 = assoc ] && printf 'mine|me\\nours|me\\n'\n"
    (small_queue / "sacctmgr").write_text(sacctmgr)
    folder = small_queue / "campaign"
    init(folder, "--partition", "long", "--account", "theirs", "--gpu-partition", "short")
    small_campaign(folder)
    text = " ".join(check.examine(load_campaign(folder)).errors)
    assert "SLURM has no partition long; it has short." in text
    assert "SLURM has no account theirs for " in text
    assert "it has mine, ours." in text
    with pytest.raises(TomopipeError, match="no partition long"):
        launch.run_command(folder, None, launch.chosen_profile(folder))
    assert launch.run_command(folder, None, "workstation")
    path = folder / "slurm" / "profile.yaml"
    path.write_text(path.read_text().replace("long", "short").replace("theirs", "ours"))
    assert launch.run_command(folder, None, launch.chosen_profile(folder))
    assert check.examine(load_campaign(folder)).errors == []


def test_check_says_once_what_was_found_where(tmp_path):
    small_campaign(tmp_path, "a_1", "a_2", "a_3", "a_4", energy_kev=25)
    small_campaign(tmp_path, "b_1", format="nxtomo")
    groups = check.examine(load_campaign(tmp_path)).formats
    assert [scans for _, scans in groups] == [["a_1", "a_2", "a_3", "a_4"], ["b_1"]]
    status, shown = run_check(tmp_path)
    assert status == 0
    assert "DXchange: 4 scans (a_1, a_2, a_3, ...)" in shown
    assert "energy 25 keV, /measurement/instrument/monochromator/energy" in shown
    assert "NXtomo: 1 scan (b_1)" in shown
    assert "angles /entry0000/sample/rotation_angle, 180 degrees" in shown


def test_paths_of_entries_are_whole_unless_they_differ(tmp_path):
    small_campaign(tmp_path, "a_1", "a_2")
    entries = "campaign: {scans: [{glob: raw/*.h5, entries: all}]}\n"
    (tmp_path / "config.yaml").write_text(entries)
    ((text, _),) = check.examine(load_campaign(tmp_path)).formats
    assert "projections /exchange/data;" in text
    with h5py.File(tmp_path / "raw" / "a_1.h5", "a") as file:
        for number in (2, 3):
            file.copy("exchange", f"exchange_{number}")
    texts = [text for text, _ in check.examine(load_campaign(tmp_path)).formats]
    assert [text.split(";")[1] for text in texts] == [
        " projections /exchange/data",
        " projections */data",
    ]


def test_flats_of_the_scans_that_others_replace_for_all_are_named_once(tmp_path):
    small_campaign(tmp_path, "a_1", "a_2", "a_3")
    small_campaign(tmp_path, "a_4")
    with h5py.File(tmp_path / "raw/a_4.h5", "r+") as file:
        del file["exchange/data_white"]
    last = "\noverrides: [{scans: [a_4], preprocess: {flats: raw/a_1.h5}}]"
    for options, is_said in (
        (last, False),  # has none of its own
        ("preprocess: {flats: raw/a_1.h5}", True),
        ("preprocess: {flats: raw/a_1.h5, darks: none}", True),
        ("preprocess: {flats: 'raw/{scan}.h5'}" + last, False),
    ):
        configure(tmp_path, options)
        notes = check.examine(load_campaign(tmp_path)).notes
        lines = [line for line in notes if "not used" in line]
        line = "2 scans (a_2, a_3): own flats (/exchange/data_white) are not used, as preprocess."
        assert ([text.startswith(line) for text in lines], options) == ([True] * is_said, options)


def test_check_warns_of_angles_in_another_unit_as_a_run_skips_them_and_names_the_key(tmp_path):
    for name, factor in (("a_1", 1), ("a_2", np.pi / 180), ("a_3", np.pi / 180), ("b_1", 1000)):
        small_campaign(tmp_path, name, theta_deg=np.arange(0, 180) * factor)
    first, second = warnings(tmp_path, "look like")
    assert first.startswith("2 scans (a_2, a_3): skipped: angles look like rad (span 3.12414, ")
    own = 'set overrides: [{scans: ["a_2", "a_3"], input: {angle_unit: rad}}], or deg'
    assert f"about 180 degrees); {own}" in first
    assert second.startswith("b_1: skipped: angles look like mdeg (span 179000, ")
    own = 'set overrides: [{scans: ["b_1"], input: {angle_unit: mdeg}}], or deg'
    assert f"about 180 degrees); {own}" in second
    assert run_check(tmp_path)[0] == 0
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_1\tno\n")
    status, shown = run_check(tmp_path)
    assert (status, "Ready" in shown) == (1, False)
    assert "none of 4 scans can be used (1 have select: no). Repair the files" in shown
    assert shown.count("angles look like rad") == 1
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_3\tno\n")
    units = {"a_2": "rad", "b_1": "mdeg"}
    given = [f"- {{scans: [{scan}], input: {{angle_unit: {units[scan]}}}}}" for scan in units]
    configure(tmp_path, "\n".join(["overrides:", *given]))
    findings = check.examine(load_campaign(tmp_path))
    assert not [line for line in (*findings.errors, *findings.warnings) if "cover" in line]


@pytest.mark.parametrize(
    ("theta_deg", "said"),
    [
        (np.linspace(0, 180, 61), "mirrors the first one: {start: 0, stop: 180} is likely"),
        (np.linspace(0, 360, 60, endpoint=False), "like the first one: {start: 0, stop: 360} is"),
        (np.linspace(0, 140, 61), ""),
    ],
    ids=["half", "full", "neither"],
)
def test_check_says_which_angles_are_likely_where_there_are_none(tmp_path, theta_deg, said):
    more = {"n_rows": 8, "n_cols": 96, "cor_px": 44.3, "counts": 50000}
    small_campaign(tmp_path, **more, theta_deg=theta_deg, write_theta=False)
    (line,) = warnings(tmp_path, "angles")
    assert line.startswith("a_1: skipped: no angles: set input.angles: {start: 0, stop: 180}")
    assert said in line
    assert ("likely" in line) == bool(said)


def test_scans_whose_axis_may_be_near_an_edge_have_larger_volumes(tmp_path):
    small_campaign(tmp_path, "a_1", theta_deg=np.linspace(0, 180, 30, endpoint=False))
    small_campaign(tmp_path, "b_1", theta_deg=np.linspace(0, 360, 30, endpoint=False))
    notes = check.examine(load_campaign(tmp_path)).notes
    (note,) = (note for note in notes if "near an edge" in note)
    assert note.startswith("b_1: 4 times as much")


@pytest.mark.parametrize(
    ("angles", "named"),
    [
        ("{start: 0, stop: 360}", ("a_1", 180)),
        ("{start: 0, stop: 180}", ("b_1", 180)),
        ("{start: 10, stop: 190}", ("b_1", 180)),  # another start turns slices, and no more
        ("{start: 180, stop: 0}", ("2 scans (a_1, b_1)", None)),
    ],
)
def test_angles_of_the_config_that_contradict_those_of_a_file_are_named(tmp_path, angles, named):
    small_campaign(tmp_path, "a_1", theta_deg=np.linspace(0, 180, 30, endpoint=False))
    small_campaign(tmp_path, "b_1", theta_deg=np.linspace(0, 360, 30))
    assert not warnings(tmp_path, "contradicts")
    configure(tmp_path, f"input: {{angles: {angles}}}")
    lines = warnings(tmp_path, "contradicts")
    name, apart_deg = named
    if apart_deg:
        (line,) = lines
        assert line.startswith(f"{name}: input.angles contradicts /exchange/theta")
        said_deg = float(line.split(" by up to ")[1].split()[0])
        assert said_deg == pytest.approx(apart_deg, abs=7)  # a step more or less
        remedy = f'overrides: [{{scans: ["{name}"], input: {{angles: null}}}}]'
        assert line.endswith(remedy)
        configure(tmp_path, f"input: {{angles: {angles}}}\n{remedy}")
        assert not warnings(tmp_path, "contradicts")
    else:
        assert [line.partition(":")[0] for line in lines] == ["a_1", "b_1"]
        assert all(line.endswith("leave input.angles out") for line in lines)


@pytest.mark.parametrize("others_agree", [True, False])
@pytest.mark.parametrize(
    ("spoilt", "advice"),
    [
        ("nan", "skip_projections: [29]"),
        ("gone", "angles: {start: 0, stop: 180}"),
        ("short", "angles: {start: 0, stop: 180}"),
    ],
)
def test_advice_on_the_angles_of_one_scan_is_for_it_alone_and_works(
    tmp_path, spoilt, advice, others_agree
):
    wrong = {"a_1"} if others_agree else {"a_1", "a_2"}
    for name in ("a_1", "a_2"):
        small_campaign(tmp_path, name, theta_deg=np.linspace(0, 180, 30), cor_px=20.0)
        with h5py.File(tmp_path / f"raw/{name}.h5", "r+") as file:
            theta_deg = file["exchange/theta"][:]
            if name in wrong:
                del file["exchange/theta"]
            if name in wrong and spoilt == "nan":
                file["exchange/theta"] = np.where(np.arange(30) < 29, theta_deg, np.nan)
            elif name in wrong and spoilt == "short":
                file["exchange/theta"] = theta_deg[:7]
    (line,) = warnings(tmp_path, "input")
    own = f'overrides: [{{scans: ["a_1"], input: {{{advice}}}}}]'
    assert (own in line, "overrides" in line) == (others_agree, others_agree)
    if others_agree:
        configure(tmp_path, own)
        assert not warnings(tmp_path, "skipped")


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize(
    ("options", "key"),
    [
        ("columns: [0, 900]", "input.columns"),
        ("skip_projections: [[0, 400]]", "input.skip_projections"),
        ("paths: {data: /nowhere}", "input.paths.data"),
    ],
)
def test_where_an_option_is_why_no_scan_can_be_used_it_is_named(tmp_path, options, key, is_broken):
    """Other options that the reason names, such as input.every, have their defaults."""
    small_campaign(tmp_path, "a_1", "a_2")
    if is_broken:
        (tmp_path / "raw/a_2.h5").write_bytes(b"")
    configure(tmp_path, f"input: {{{options}}}")
    (line,) = check.examine(load_campaign(tmp_path)).errors
    files = ", repair the other files" * is_broken
    text = f". Correct {key} in the configuration (config.yaml){files}, or name others in campaign"
    assert text in line


def test_advice_on_projections_to_skip_has_those_that_are_skipped_already(tmp_path):
    for name in ("a_1", "a_2", "a_3"):
        small_campaign(tmp_path, name, theta_deg=np.linspace(0, 180, 30), cor_px=20.0)
        with h5py.File(tmp_path / f"raw/{name}.h5", "r+") as file:
            file["exchange/theta"][{"a_1": [29], "a_2": [4, 5, 29]}.get(name, [])] = np.nan
    configure(tmp_path, "input: {skip_projections: [[4, 9], 12]}")
    (line,) = warnings(tmp_path, "not finite")  # 4 and 5 are skipped
    both = 'overrides: [{scans: ["a_1", "a_2"], input: {skip_projections: [[4, 9], 12, 29]}}]'
    assert f"{both} leaves it out" in line
    own = 'overrides: [{scans: ["a_2"], input: {skip_projections: [%s]}}]'
    configure(tmp_path, own % "[4, 9], 12")
    lines = warnings(tmp_path, "not finite")
    assert [own % "[4, 9], 12, 29" in line for line in lines] == [False, True]
    assert own.replace("a_2", "a_1") % "29" in lines[0]
    configure(tmp_path, own % "[4, 9], 12, 29")
    assert len(warnings(tmp_path, "not finite")) == 1


@pytest.mark.parametrize("step", ["try_recon", "full_recon"])
def test_the_row_of_a_renamed_scan_names_the_scan_of_its_file(tmp_path, step):
    """A scan that is made by hand has no sweep; another file of the size was always there."""
    for name in ("a_1", "a_2"):
        small_campaign(tmp_path, name)
    os.utime(tmp_path / "raw/a_2.h5", (1, 1))
    statement = {"raw": Target(load_campaign(tmp_path)).raw("a_1")}
    Receipts(tmp_path, load_campaign(tmp_path).outputs).write(step, "a_1", statement, [])
    (tmp_path / "results/try_center/a_1").mkdir(parents=True)
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\na_1\t20.5\n")
    (tmp_path / "raw/a_1.h5").rename(tmp_path / "raw/b_7.h5")
    text = "scans.tsv: line 2: no scan a_1 in the campaign any more; "
    new = f"{text}its file is now that of b_7: write this name"
    campaign = load_campaign(tmp_path)
    assert new in check.examine(campaign).warnings
    assert table_faults(campaign) == [new]
    (tmp_path / "raw/b_7.h5").unlink()
    assert f"{text}if its file was renamed, write the new name" in warnings(tmp_path)


def test_the_rows_of_time_points_of_a_renamed_file_name_its_time_points(tmp_path):
    small_campaign(tmp_path, theta_deg=np.arange(0, 360, 9.0))
    config = tmp_path / "config.yaml"
    config.write_text("campaign: {scans: [{glob: 'raw/*.h5', turns: 180}]}\n")
    for name in ("a_1@t0000", "a_1@t0001"):
        statement = {"raw": Target(load_campaign(tmp_path)).raw(name)}
        Receipts(tmp_path, load_campaign(tmp_path).outputs).write("full_recon", name, statement, [])
        (tmp_path / "results/try_center" / name).mkdir(parents=True)
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\na_1@t0001\t20.5\n")
    (tmp_path / "raw/a_1.h5").rename(tmp_path / "raw/b_7.h5")
    (fault,) = table_faults(load_campaign(tmp_path))
    assert fault.endswith("its file is now that of b_7@t0001: write this name")


def test_rows_and_overrides_may_be_written_before_their_scans_come(tmp_path):
    small_campaign(tmp_path)
    rows = ("a_2\t20.5", "a_01\t20.5", "b_1\t20.5")  # the next, a slip, another series
    (tmp_path / "scans.tsv").write_text("\n".join(["scan\tcor_px", *rows]))
    found = check.examine(load_campaign(tmp_path))
    assert found.errors == []
    for line, name in ((2, "a_2"), (3, "a_01"), (4, "b_1")):
        yet = f"scans.tsv: line {line}: no scan {name} in the campaign yet; did you mean a_1?"
        assert yet in found.warnings
    (tmp_path / "results" / "try_center" / "a_2").mkdir(parents=True)  # it was there
    renamed = "scans.tsv: line 2: no scan a_2 in the campaign any more; if its file was renamed, "
    assert f"{renamed}write the new name" in check.examine(load_campaign(tmp_path)).warnings
    (tmp_path / "results" / "try_center" / "a_2").rmdir()
    configure(tmp_path, "overrides: [{scans: [a_3], full_recon: {filter: hann}}]")
    with pytest.raises(TomopipeError, match="overrides 1: scans: there is no a_3"):
        load_campaign(tmp_path)
    (tmp_path / "results" / "try_center" / "a_3").mkdir(parents=True)  # it was there
    gone = check.examine(load_campaign(tmp_path))
    assert "overrides 1: scans: a_3 is no longer in the campaign" in gone.warnings
    (tmp_path / "results" / "try_center" / "a_3").rmdir()
    lock.take(tmp_path, lock.new_run(tmp_path, watcher=named(os.getpid())))
    found = check.examine(load_campaign(tmp_path))
    assert found.errors == []
    told = " ".join(found.warnings)
    assert all(f"no scan {name} in the campaign yet" in told for name in ("a_2", "a_01", "b_1"))
    assert "overrides 1: scans: there is no a_3; did you mean a_1?" in told


@pytest.mark.slow
def test_check_names_patterns_without_files_folders_that_are_closed_and_files_of_two_scans(
    tmp_path,
):
    for name in ("raw/a_1", "raw/a_2", "closed/b_1"):
        write_scan(tmp_path / f"{name}.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5, ./raw/a_1.h5, raw/*.nxs, gone/*.h5, closed/*.h5, "
        "{glob: raw/a_2.h5, prefix: x_}]}\n"
    )
    (tmp_path / "closed").chmod(0)
    status, texts, _ = heeding("check", tmp_path)
    (tmp_path / "closed").chmod(0o755)
    assert status == 0, texts
    assert f"campaign.scans: no file matches raw/*.nxs in {tmp_path}" in texts
    assert f"no file matches gone/*.h5: there is no folder {tmp_path / 'gone'}" in texts
    assert f"{tmp_path / 'closed'}: this folder cannot be read, so no file in it can match" in texts
    assert f"{tmp_path / 'raw/a_2.h5'} is 2 scans: a_2, x_a_2; list it once" in texts


def test_check_refuses_a_results_folder_whose_disk_is_not_mounted(tmp_path):
    small_campaign(tmp_path)
    (tmp_path / "results").symlink_to("/mnt/gone/results")
    assert check.examine(load_campaign(tmp_path)).errors == [
        f"{tmp_path / 'results'}: a link to /mnt/gone/results, which does not exist: mount its "
        "disk, or remove the link"
    ]


def test_results_that_are_made_again_are_still_to_write(site):
    small_campaign(site, options="predict_cor: {methods: []}")
    (site / "scans.tsv").write_text("scan\tcor_px\na_1\t16\n")
    campaign = load_campaign(site)
    expected_inventory(campaign, campaign.results)
    campaign.volume("a_1").touch()  # without a receipt
    (note,) = (note for note in check.examine(campaign).notes if "selected" in note)
    size = shown_size(make_plan(campaign).n_bytes)
    assert f"1 scan selected; still to write: about {size} (volumes {size}); " in note


def test_a_scan_selected_in_the_table_is_not_told_to_be_selected(tmp_path):
    small_campaign(tmp_path, theta_deg=np.linspace(0, 180, 101), n_frames=100)
    (skipped,) = warnings(tmp_path, "abort")
    assert skipped.startswith("a_1: skipped: ")
    assert "`select: yes` in scans.tsv" in skipped
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_1\tyes\n")
    (selected,) = warnings(tmp_path, "abort")
    assert selected.startswith("a_1: selected in scans.tsv: aborted: 100 frames for 101 angles")
    assert "select: yes" not in selected


def test_what_an_aborted_scan_lacks_is_named_if_it_is_selected(tmp_path):
    small_campaign(tmp_path, theta_deg=np.linspace(0, 180, 101), n_frames=40)
    assert warnings(tmp_path, "cover") == []
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_1\tyes\n")
    (lacks,) = warnings(tmp_path, "cover")
    assert lacks.startswith("a_1: the angles cover 72 of 180 degrees")


def test_check_names_a_file_that_has_gone_since_the_last_run(site):
    small_campaign(site, "a_1", "a_2")
    expected_inventory(load_campaign(site), site / "results")
    assert not warnings(site)
    (site / "raw" / "a_2.h5").unlink()
    (said,) = warnings(site)
    assert said.startswith("raw/a_2.h5: missing since the last run")


def test_check_misses_files_that_the_config_names(tmp_path):
    options = "preprocess: {flats: [raw/a_1.h5, gone]}\ninput: {angles: gone.txt}"
    small_campaign(tmp_path, options=options)
    errors = check.examine(load_campaign(tmp_path)).errors
    assert [error.partition(":")[0] for error in errors] == ["gone", "gone.txt"]


def test_check_shows_the_pattern_that_joins_scans_of_series_of_one(site):
    for n in range(4):
        (site / f"rock_{n}_tomo.h5").write_bytes(b"")
    assert init(site / "c", site / "rock_*.h5").exit_code == 0
    (warning,) = warnings(site / "c", "series have one scan")
    assert warning.startswith("4 of 4 series")
    assert r"inventory: {series_pattern: '^(.*?)[._-]*(\d+)_tomo$'} makes 1 series" in warning
    config = (site / "c" / "config.yaml").read_text()
    line = warning[warning.index("inventory: {") : warning.index(" makes")]
    (site / "c" / "config.yaml").write_text(f"{config}\n{line}\n")
    assert warnings(site / "c", "series have one scan") == []
    assert {scan.series for scan in load_campaign(site / "c").scans.values()} == {"rock"}


def test_columns_that_change_within_a_series_are_named(site):
    for n, n_cols in ((1, 48), (2, 48), (3, 32)):
        write_scan(site / f"roi_{n}.h5", cor_px=20.0, n_cols=n_cols, n_rows=2, n_angles=40)
    assert init(site / "c", site / "roi_*.h5").exit_code == 0
    (line,) = warnings(site / "c", "series roi has scans of")
    assert "48 columns (2), 32 columns (1): CORs are compared with those of equal ones" in line
    (site / "c" / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\nroi_3\tno\t\t\n")
    assert not warnings(site / "c", "series roi has scans of")
