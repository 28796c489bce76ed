"""Which option remakes what: every key of the configuration against the table of the docs."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, create_model

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import Campaign, campaign_from_data
from tomopipe.campaign.files import Files
from tomopipe.config import Config
from tomopipe.config.base import effective
from tomopipe.config.parse import merged
from tomopipe.config.preprocess import CORRECTIONS
from tomopipe.reruns.receipts import digest
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.resources import jobs
from tomopipe.workflow_steps import STEPS, TABLES

TABLE = Path(__file__).parents[3] / "docs" / "reference" / "reruns.md"
# another value of each key, and where it needs others to have an effect, these
OTHER = {
    "campaign.name": "another",
    "input.paths.data": "/entry/data/data",
    "input.paths.flats": "/flats",
    "input.paths.darks": "/darks",
    "input.paths.angles": ("/theta", {"paths": {"data": "/frames"}}),
    "input.paths.image_key": ("/keys", {"paths": {"data": "/frames"}}),
    "input.axes": ["row", "angle", "col"],
    "input.frames": ["2 darks", "20 projections"],
    "input.entry": "/entry2",
    "input.mirrored": "no",
    "input.angles": "angles.txt",
    "input.angle_unit": "rad",
    "input.unsigned": True,
    "input.pixel_size_um": 2.5,
    "input.energy_kev": 30.0,
    "input.distance_mm": 10.0,
    "input.columns": [4, 59],
    "input.window": [0, 5],
    "input.every": 2,
    "input.average": 3,
    "input.skip_angles": [[0.0, 2.0]],
    "input.skip_projections": [3],
    "inventory.series_pattern": r"^(.*?)_(\d+)$",
    "inventory.min_fraction": 0.4,
    "preprocess.flats": "none",
    "preprocess.darks": "none",
    "preprocess.flat_method": "median",
    "preprocess.flat_components": (4, {"flat_method": "pca"}),
    "preprocess.flat_shift_px": (8.0, {"flat_method": "register"}),
    "preprocess.flat_sets": (3, {"flat_method": "interpolate"}),
    **{
        f"preprocess.{key}": entry.example
        for key, entry in CORRECTIONS.items()
        if not isinstance(entry.example, dict)
    },
    "preprocess.bad_pixels.threshold": 0.3,
    "preprocess.ring_current.dataset": "/monitor",
    "preprocess.ring_current.flats_mean": (3.0, {"ring_current": {"dataset": "/monitor"}}),
    "preprocess.zingers.threshold": 0.2,
    "preprocess.zingers.size_px": (5, {"zingers": {"threshold": 0.2}}),
    "preprocess.distortion.coefficients": [1.0, 1e-5],
    "preprocess.distortion.center_px": ([30.0, 1.0], {"distortion": {"coefficients": [1.0, 1e-5]}}),
    "preprocess.phase.method": "paganin",
    "preprocess.phase.delta_beta": (200.0, {"phase": {"method": "paganin"}}),
    "preprocess.phase.unsharp_coeff": (2.0, {"phase": {"method": "paganin"}}),
    "preprocess.phase.unsharp_sigma": (
        2.0,
        {"phase": {"method": "paganin", "unsharp_coeff": 1.0}},
    ),
    "preprocess.minus_log": False,
    "preprocess.shifts_scale": ([1.0, -1.0], {"shifts": "shifts.txt"}),
    "preprocess.stripes.method": "sorting",
    "preprocess.stripes.threshold": (4.0, {"stripes": {"method": "gated"}}),
    "preprocess.stripes.size_px": (31, {"stripes": {"method": "sorting"}}),
    "preprocess.stripes.limit": (0.3, {"stripes": {"method": "double-flat"}}),
    "preprocess.stripes.large_px": (61, {"stripes": {"method": "vo"}}),
    "preprocess.stripes.snr": (4.0, {"stripes": {"method": "vo"}}),
    "preprocess.stripes.sigma": (2.0, {"stripes": {"method": "fourier-wavelet"}}),
    "preprocess.stripes.level": (4, {"stripes": {"method": "fourier-wavelet"}}),
    "preprocess.stripes.wavelet": ("db5", {"stripes": {"method": "fourier-wavelet"}}),
    "preprocess.half_acquisition": "no",
    "try_recon.center_px": 31.0,
    "try_recon.width_px": 7.0,
    "try_recon.every": 10,
    "try_recon.step_px": 0.25,
    "try_recon.row": 1,
    "try_recon.max_size_px": 32,
    "try_recon.format": "tiff",
    "try_recon.device": "cpu",
    "predict_cor.when": "always",
    "predict_cor.methods": ["classical"],
    "predict_cor.min_confidence": 0.6,
    "predict_cor.max_bad_frames": 0.2,
    "predict_cor.model": "own.safetensors",
    "predict_cor.dinov2_checkpoint": (
        "net.pth",
        {"methods": ["dinov2"], "dinov2_checkpoint": "old.pth"},
    ),
    "fix_cor.max_delta_px": 30.0,
    "fix_cor.protect_manual": False,
    "fix_cor.protect_confident": 0.9,
    "fix_cor.fill": "series",
    "fix_cor.max_fill_error_px": 2.0,
    "fix_cor.over_time": "line",
    "resolve_cor.default_px": 31.0,
    "resolve_cor.on_missing": "block",
    "full_recon.device": "cpu",
    "full_recon.algorithm": "sirt",
    "full_recon.iterations": (7, {"algorithm": "sirt"}),
    "full_recon.tv_strength": (0.1, {"algorithm": "tv"}),
    "full_recon.filter": "hann",
    "full_recon.rows": [0, 1],
    "full_recon.binning": 2,
    "full_recon.crop_x": [0, 9],
    "full_recon.crop_y": [0, 9],
    "full_recon.output": "tiff",
    "full_recon.zarr_version": (2, {"output": "zarr"}),
    "full_recon.compression": "gzip",
    "full_recon.dtype": "uint16",
    "full_recon.value_range": ([0.0, 1.0], {"dtype": "uint8"}),
    "full_recon.unit": "per_cm",
    "stitch.direction": "up",
    "stitch.overlap_rows": 1.0,
    "stitch.match_intensity": True,
    "export_star.pixel_size_um": 3.0,
    "export_star.energy_kev": 33.0,
    "export_star.binning": 2,
    "export_star.max_stack_gb": 1.0,
    "export_star.rows": [0, 1],
    "export_star.max_tilts": 9,
    "export_star.hand": 1,
    "watch.settle_s": 1.0,
    "hooks.on_scan": "true",
    "hooks.on_doubtful": "true",
    "hooks.on_failure": "true",
    "hooks.on_end": "true",
    "hooks.time_limit_s": 1.0,
}
# beside the statements: of a prediction that says which rows it took into account
BY_RESULT = {"full_recon.rows": {"predict_cor"}}
# where things lie, what is asked for at all, and keys whose values are other keys
NOT_OPTIONS = {
    "campaign.scans", "campaign.table", "campaign.results", "storage.sidecars", "storage.scratch",
    "storage.keep_try", "storage.keep_stacks", "storage.share_frames", "stitch.stacks",
    "stitch.time", "export_star.enabled", "report.enabled", "overrides",
}  # fmt: skip


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


# parts of statements that are results of earlier steps
OF_EARLIER = {
    "predict_cor": ("rows",), "stitch": ("volumes", "metadata"), "report": ("shown",),
    "sidecar": ("campaign", "cors", "tables", "predictions"),
}  # fmt: skip


def statements(campaign: Campaign, stacks: str = "stacks") -> dict[str, str]:
    """Return the digest of each step's statement, without results of earlier steps."""
    stitch = campaign.config.stitch.model_copy(update={stacks: {"tall": ["a_1", "a_2"]}})
    config = campaign.config.model_copy(update={"stitch": stitch})
    cells = {"n_rows": "2", "n_cols": "64", "n_angles": "9", "keep": "true"}
    rows = {scan: {"scan": scan, **cells} for scan in ("a_1", "a_2")}
    cors = {scan: {"cor_px": 31.0, "source": "auto"} for scan in rows}
    target = Target(replace(campaign, config=config), rows, cors)
    keys = {"scan": "a_1", "series": "a", "stack": "tall", "campaign": "campaign"}
    result = {}
    for name, step in STEPS.items():
        stated = target.statement(name, keys[step.key])
        own = {key: value for key, value in stated.items() if key not in OF_EARLIER.get(name, ())}
        result[name] = digest(own)
    return result


def plain(folder: Path) -> Campaign:
    return campaign_from_data({"campaign": {"scans": ["raw/*.h5"]}}, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("campaign")
    for scan in ("a_1", "a_2"):
        write_scan(path / "raw" / f"{scan}.h5", n_rows=2, n_cols=64, n_angles=9)
    (path / "angles.txt").write_text("0\n")
    return path


def remade(folder: Path, key: str) -> set[str]:
    """Return the steps that must run again when a key gets its other value."""
    other, needed = OTHER[key] if isinstance(OTHER[key], tuple) else (OTHER[key], {})
    base = {"campaign": {"scans": ["raw/*.h5"]}}
    if needed:
        base[key.partition(".")[0]] = needed
    before = statements(campaign_from_data(base, folder))
    for name in reversed(key.split(".")):
        other = {name: other}
    after = statements(campaign_from_data(merged(base, other), folder))
    return {step for step in before if before[step] != after[step]}


def table() -> dict[str, set[str]]:
    """Read the table of the docs: the keys of each line, and the steps that they remake."""
    found = {}
    text = TABLE.read_text().partition("## Which option remakes what")[2]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([a-z0-9_.*]+)`", cells[0])
        if line.startswith("| `") and len(cells) == 2:
            found |= {name: set(re.findall(r"[a-z_]+", cells[1])) & set(STEPS) for name in names}
    for block in [name for name in found if name.endswith("*")]:
        steps = found.pop(block)
        found = {key: steps for key in OTHER if key.startswith(block[:-1])} | found
    return found


def test_the_table_of_steps_has_every_rule_in_the_order_of_the_work():
    names, home = list(STEPS), Path(__file__).parents[3]
    texts = {name: (home / f"workflow/rules/{name}.smk").read_text() for name in names}
    for number, (name, step) in enumerate(STEPS.items()):
        assert {*step.inputs} <= {*names[:number]}
        receipt = f'"{name}"' if step.key == "campaign" else f'"{name}", "{{{step.key}}}"'
        assert f"({receipt})" in texts[name]
        assert len(Files("results").outputs(name, "key", "h5")) == len(step.outputs)
        assert (home / f"workflow/scripts/{name}.py").is_file()
        assert (home / f"tomopipe/steps/{name}.py").is_file()
    assert {name for name in names if f"checkpoint {name}:" in texts[name]} == TABLES
    needs = {name for name in names if f'**requests("{name}"' in texts[name]}
    assert needs == {*jobs.NEEDS}, "what a job takes is in tomopipe/resources/jobs.py"


def test_what_more_decides_on_a_step_bears_its_name():
    """A statement for each step; further reasons, and what reads a table, for some."""
    for of, prefix, all_of_them in (
        (Target, "of_", True),
        (Staleness, "_why_", False),
        (Settled, "_decide_", False),
        (Settled, "_after_", False),
    ):
        named = {name.removeprefix(prefix) for name in vars(of) if name.startswith(prefix)}
        assert named <= {*STEPS}, of
        assert not all_of_them or named == {*STEPS}, of


def test_every_key_stands_in_the_table_of_the_docs():
    known = set(OTHER) | NOT_OPTIONS
    assert set(keys()) == known, f"OTHER needs another valid value of {set(keys()) ^ known}"
    lacking = set(table()) ^ set(OTHER)
    assert not lacking, f"{lacking}: which steps they make run stands in docs/reference/reruns.md"


@pytest.mark.parametrize("key", OTHER)
def test_a_key_remakes_what_the_docs_say(folder, key):
    assert remade(folder, key) | BY_RESULT.get(key, set()) == table()[key]


@pytest.mark.parametrize("block", [name for name in Config.model_fields if name != "overrides"])
def test_a_new_key_with_a_default_changes_no_statement(block):
    model = Config.model_fields[block].annotation
    newer = create_model("Newer", __base__=model, new_key=(int, Field(3)))
    needed = {"scans": ["*"]} if block == "campaign" else {}
    assert effective(newer(**needed)) == effective(model(**needed))
    assert effective(newer(**needed, new_key=4)) == effective(model(**needed)) | {"new_key": 4}


def test_values_written_out_that_are_the_defaults_change_nothing(folder):
    everything = Config(campaign={"scans": ["raw/*.h5"]}).model_dump()
    assert statements(campaign_from_data(everything, folder)) == statements(plain(folder))


def test_gated_keeps_the_size_that_null_stands_for():
    block = Config.model_fields["preprocess"].annotation
    assert effective(block(stripes={"method": "gated"})) == {"stripes": {"method": "gated"}}
    sizes = {
        size_px: effective(block(stripes={"method": "gated", "size_px": size_px}))
        for size_px in (21, 23)
    }
    assert sizes[21] == {"stripes": {"method": "gated"}}
    assert sizes[23] == {"stripes": {"method": "gated", "size_px": 23}}
    sorting = effective(block(stripes={"method": "sorting", "size_px": 21}))
    assert sorting == {"stripes": {"method": "sorting", "size_px": 21}}


def test_options_without_effect_are_not_stated(folder):
    data = {
        "campaign": {"scans": ["raw/*.h5"]},
        "preprocess": {"stripes": {"threshold": 7.0}, "phase": {"delta_beta": 9.0}},
        "full_recon": {"iterations": 9, "tv_strength": 0.1, "value_range": [0.0, 1.0]},
        "predict_cor": {"methods": ["classical"], "model": "own.safetensors"},
        "export_star": {"binning": 1, "max_stack_gb": 2.0},
    }
    without = {"predict_cor": {"methods": ["classical"]}, "export_star": {"binning": 1}}
    base = {"campaign": {"scans": ["raw/*.h5"]}} | without
    found = statements(campaign_from_data(data, folder))
    assert found == statements(campaign_from_data(base, folder))


def test_a_volume_in_time_has_the_version_of_zarr_whatever_the_output(folder):
    def stated(**full_recon: object) -> dict[str, str]:
        data = {"campaign": {"scans": ["raw/*.h5"]}, "full_recon": full_recon}
        return statements(campaign_from_data(data, folder), "time")

    old, new = stated(zarr_version=2), stated()
    assert {step for step in old if old[step] != new[step]} == {"stitch"}
    assert stated(output="tiff")["stitch"] == new["stitch"]


def test_a_shift_that_is_edited_remakes_what_its_scan_was_used_for(folder):
    data = {"campaign": {"scans": ["raw/*.h5"]}, "preprocess": {"shifts": "{scan}.txt"}}
    texts = (("a_1", "0 0\n" * 9), ("a_2", "0 0\n" * 9), ("a_2", "0 1\n" * 9), ("a_1", "0 1\n" * 9))
    results = []
    for scan, text in texts:
        (folder / f"{scan}.txt").write_text(text)
        results.append(statements(campaign_from_data(data, folder)))
    _, before, other_scan, after = results
    assert other_scan == before
    changed = {step for step in before if before[step] != after[step]}
    assert changed == {"try_recon", "full_recon", "export_stack"}


def test_a_volume_is_made_again_if_another_roll_is_measured(folder):
    """Of scans with roll_deg: auto alone; its job gets the number."""
    data = {"campaign": {"scans": ["raw/*.h5"]}, "preprocess": {"roll_deg": "auto"}}
    campaign = campaign_from_data(data, folder)
    path = campaign.files.sweep("a_1")
    path.parent.mkdir(parents=True)
    results, rolls = [], []
    for text in ("{}", '{"roll_deg": 0.31}'):
        path.write_text(text)
        results.append(statements(campaign))
        rolls.append(Target(campaign).measured_roll_deg("a_1"))
    before, after = results
    changed = {step for step in before if before[step] != after[step]}
    assert changed == {"full_recon", "export_stack"}
    assert rolls == [0.0, 0.31]
    assert Target(plain(folder)).measured_roll_deg("a_1") == 0.0


def test_numbers_are_compared_by_value(folder):
    def stated(width: object) -> str:
        data = {"campaign": {"scans": ["raw/*.h5"]}, "try_recon": {"width_px": width}}
        return statements(campaign_from_data(data, folder))["try_recon"]

    assert stated(40) == stated(40.0) != stated(41)
