"""The output of `tomopipe init`: a campaign folder, and a SLURM profile for a site.

`--from` translates nabu.conf, or a process list of HTTomo. The table other_programs.tsv has a line
for each key, from the documentation of nabu 2026.1 and HTTomo 3.2: its default there ("any": not
needed here), our key, and the conversion of its value: a type, a factor (*1000), our value for each
of theirs, or one fixed value (=vo).
"""

import csv
import glob
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as IniError
from contextlib import suppress
from functools import cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tomopipe.campaign.files import CONFIG, SNAKEFILE, TABLE
from tomopipe.campaign.raw_files import fixed_folder, matches
from tomopipe.config.blocks import NUMBERS
from tomopipe.config.parse import merged, parse_config, read_config
from tomopipe.config.spans import as_span
from tomopipe.errors import ScanError, TomopipeError, grouped, on_os_error
from tomopipe.paths import no_pipe, workflow_folder
from tomopipe.scans.formats import RAW_ENDINGS
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.storage.atomic import write_text

_PROFILE = "profiles/default/profile.yaml"  # which Snakemake loads with the Snakefile beside it
_SNAKEFILE = """\
# `snakemake --cores all`, typed in this folder, runs the tomopipe of the same environment.
from tomopipe.paths import workflow_folder


include: str(workflow_folder() / "workflow" / "rules" / "campaign.smk")


rule all:
    default_target: True
    input:
        EVERYTHING,
    localrule: True
"""
_LOOKED_AT = 3  # files of a pattern that are opened
_EMPTY = ("", "none", "auto")
_FILTERS = (
    "ramlak=ramp ram-lak=ramp ramp=ramp shepp=shepp-logan shepp-logan=shepp-logan "
    "cosine=cosine hann=hann hamming=hamming parzen=parzen"
)
# options that count pixels, the side of frames that they count along, and its axis
_ALONG = {
    "full_recon.rows": ("rows", 1),
    "full_recon.crop_x": ("columns", 2),
    "full_recon.crop_y": ("columns", 2),
    "input.columns": ("columns", 2),
}
_COUNTED = (*_ALONG, "preprocess.shifts", "preprocess.roll_deg")
_MIRRORED = "mirrored frames: docs/reference/conventions.md"
_WITH_LOG = {"minus_log", "paganin_filter", "paganin_filter_savu_legacy"}
_OUR_NUMBERS = {"pixel_size": "pixel_size_um", "energy": "energy_kev", "distance": "distance_mm"}


def campaign_and_scans(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Separate the campaign folder, the first argument, from the scans.

    Without arguments it is the current folder. TomopipeError if the first argument means scans.
    """
    campaign, *scans = arguments or ["."]
    path = os.path.expanduser(campaign)
    names = os.listdir(path) if os.path.isdir(path) and CONFIG not in os.listdir(path) else [path]
    is_pattern = glob.has_magic(path) and not os.path.isdir(path)
    is_here = bool(scans) and os.path.normpath(path) == "."  # scans may lie in it
    has_scans = any(name.lower().endswith(RAW_ENDINGS) for name in names)
    if arguments and not is_here and (is_pattern or has_scans):
        raise TomopipeError(
            f"{campaign}: these are scans. Name the campaign folder first, or with -C: "
            f"tomopipe init CAMPAIGN {campaign}"
        )
    return Path(path), scans


def scan_entries(arguments: Iterable[str], directory: Path) -> list[str]:
    """Return entries of `campaign.scans` for files, folders and patterns.

    Arguments are relative to the campaign folder if they exist there, else to the working
    directory. All files of a folder become one pattern. TomopipeError for one without scans.
    """
    entries = []
    for argument in arguments:
        path = _from_campaign(os.path.expanduser(argument), directory)
        is_folder = (directory / path).is_dir()
        may_come = glob.has_magic(path) or path.lower().endswith(RAW_ENDINGS)
        if (directory / path / CONFIG).exists():
            raise TomopipeError(
                f"{argument}: a campaign folder, not scans, and {directory} is one, too. Name one."
            )
        if not (may_come or matches(path, directory)):
            raise TomopipeError(
                f"{argument}: no scans found (campaign folder: {directory}). Correct "
                "the name, or write a pattern such as 'raw/*.h5' for future scans."
            )
        path = path.rstrip("/") if is_folder else path
        folder, name = os.path.split(path)
        ending = "/" if is_folder else os.path.splitext(name)[1]
        entries.append(((folder, ending), f"{path}/" if is_folder else path))
    results: list[str] = []
    for (folder, ending), group in grouped(entries).items():
        pattern = os.path.join(glob.escape(folder), f"*{ending}")
        is_all = len(group) > 1 and matches(pattern, directory) == sorted(group)
        results += [pattern] if is_all else dict.fromkeys(group)
    return results


def with_entries(patterns: Sequence[str], directory: Path) -> list[str | dict[str, str]]:
    """Return entries of `campaign.scans`; where files have several NXtomo entries, of each one.

    The first files of a pattern decide.
    """
    from tomopipe.scans.hdf5_scan import find_entries  # h5py

    def are_several(path: str) -> bool:
        with suppress(ScanError, *UNREADABLE):
            return len(find_entries(directory / path)) > 1
        return False

    return [
        {"glob": pattern, "entries": "all"}
        if any(map(are_several, matches(pattern, directory)[:_LOOKED_AT]))
        else pattern
        for pattern in patterns
    ]


def _from_campaign(path: str, directory: Path) -> str:
    """Return a path as written in the configuration; of future files the folder decides."""
    base = fixed_folder(path)
    is_to_come = base and Path(base).is_dir() and not (directory / base).is_dir()
    is_here = is_to_come or matches(path, Path())
    if os.path.isabs(path) or matches(path, directory) or not is_here:
        return path
    folder, end = os.path.abspath(directory), "/" * path.endswith("/")
    absolute = os.path.abspath(path)
    inside = absolute.startswith(f"{folder}/")
    return (os.path.relpath(absolute, folder) if inside else absolute) + end


def write_campaign(
    directory: Path,
    scans: Sequence[str | dict[str, str]],
    options: Mapping[str, Any],
    *,
    notes: Iterable[str] = (),
    dry_run: bool,
) -> list[Path]:
    """Write config.yaml, scans.tsv, Snakefile and its profile; return those that did not exist.

    Files that exist are kept. Snakemake loads the profile by itself. `scans` are the entries of
    `campaign.scans`, `options` further blocks of the configuration, `notes` comments there.
    """
    if not dry_run:
        with on_os_error(f"{directory}: the campaign folder cannot be created", " Name another."):
            directory.mkdir(parents=True, exist_ok=True)
    files = {
        CONFIG: "# Only what differs from the defaults; all keys: config/README.md of "
        "tomopipe\n"
        + "".join(f"# {note}\n" for note in notes)
        + yaml.safe_dump(
            {"campaign": {"scans": list(scans)}, **options}, allow_unicode=True, sort_keys=False
        ),
        TABLE: "scan\tselect\tcor_px\tnote\n",
        SNAKEFILE: _SNAKEFILE,
        _PROFILE: (workflow_folder() / _PROFILE).read_text(encoding="utf-8"),
    }
    files = {name: text for name, text in files.items() if not (directory / name).exists()}
    for name, text in files.items() if not dry_run else ():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(text, directory / name)
    return [directory / name for name in files]


def write_slurm_profile(
    directory: Path, site: Mapping[str, str | None], *, force: bool, dry_run: bool
) -> list[tuple[Path, bool]]:
    """Write the SLURM profile of a campaign with the names of a site filled in.

    `site` has `partition`, `account` and `gpu_partition`; empty: SLURM's defaults. Volumes run in
    `gpu_partition`, one GPU each, and so do try sweeps with `try_recon.device: cuda`. `force`:
    replace profiles that exist.

    Returns each path, and whether the profile was written there: in the campaign, and in the user's
    Snakemake configuration, where `--profile slurm` is found from any folder.
    """
    source = workflow_folder() / "profiles" / "slurm" / "profile.yaml"
    lines = ["default-resources:"]
    for key in ("partition", "account"):
        if site[key]:
            lines.append(f"  slurm_{key}: {yaml.safe_dump(site[key]).splitlines()[0]}")
    text = no_pipe(source).read_text(encoding="utf-8")
    text = text.replace("default-resources:\n", "\n".join([*lines, ""]))
    if site["gpu_partition"] and not dry_run:
        config = read_config(directory / CONFIG)
        steps = ["full_recon", *(["try_recon"] if config.try_recon.device == "cuda" else [])]
        target = {"slurm_partition": site["gpu_partition"], "gpu": 1}
        text += yaml.safe_dump({"set-resources": {step: dict(target) for step in steps}})
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "snakemake"
    paths = []
    for folder in (directory / "slurm", user / "slurm"):
        path = folder / "profile.yaml"
        write = force or not (path.exists() or (folder / "config.yaml").exists())
        if write and not dry_run:
            write_text(text, path)
        paths.append((path, write))
    return paths


class Translation(NamedTuple):
    """A translated configuration: its scans, our options, notes on the rest, and its sweeps."""

    scans: list[str]
    options: dict[str, Any]
    notes: list[str]
    sweeps: list[tuple[str, str, str]]  # their name, our key, values

    def put(self, key: str, value: Any) -> None:
        """Set one of our keys."""
        nested = reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), value)
        self.options.update(merged(self.options, nested))

    def add(self, name: str, value: Any, row: Mapping[str, str] | None) -> None:
        """Translate a value by its line of the table, or note it."""
        word, row = str(value).lower(), row or {}
        key, rule, default = row.get("here", ""), row.get("values", ""), row.get("default", "")
        remark = row.get("remark") or "no equivalent"
        is_value = rule.startswith("=") or (rule == "filter" and value)  # none: no filter
        if default == "any" or (word in _EMPTY and not is_value):
            return
        if key and isinstance(value, _Sweep):
            self.sweeps.append((name, key, str(value)))
        elif key:
            try:
                self.put(key, _converted(value, rule))
            except (KeyError, ValueError):
                self.notes.append(f"{name} {value}: {remark}")
        elif not _is_default(word, default):
            self.notes.append(f"{name} {value}: {remark}")


def for_mirrored(
    options: dict[str, Any], patterns: Sequence[str], directory: Path
) -> tuple[dict[str, Any], list[str]]:
    """Convert translated options to frames that are mirrored back; return them, and notes.

    Other programs count in frames as recorded. The first files of a pattern decide; where they
    differ, the options stay, and a note has those of the mirrored ones; without files it names all.
    """
    from tomopipe.scans.hdf5_scan import mirrored_sides  # h5py

    names = [f"{block}.{key}" for block, keys in options.items() for key in keys]
    counted = [name for name in names if name in _COUNTED]
    if not counted:
        return options, []
    looked: list[tuple[str, dict[str, Any]]] = []
    of_input = parse_config({"campaign": {"scans": ["raw"]}} | options).input
    for path in (path for each in patterns for path in matches(each, directory)[:_LOOKED_AT]):
        with suppress(ScanError, *UNREADABLE):
            sides, shape = mirrored_sides(directory / path, of_input)
            looked.append((path, _as_mirrored(options, sides, shape)))
    if not looked:
        why = "counted as recorded; convert where frames are mirrored back"
        return options, [f"{', '.join(counted)}: {why} (docs/reference/inputs.md)"]
    texts = {
        Path(path).name: yaml.safe_dump(changed, default_flow_style=True, width=math.inf).strip()
        for path, changed in looked
        if changed
    }
    if texts and all(changed == looked[0][1] for _, changed in looked):
        name, text = next(iter(texts.items()))
        note = f"frames as in {name} are mirrored back here; converted from frames as recorded"
        return merged(options, looked[0][1]), [f"{note}: {text}"]
    return options, [
        f"frames of {name} are mirrored back here; in overrides, it needs {text}"
        for name, text in texts.items()
    ]


def _as_mirrored(
    options: dict[str, Any], sides: Collection[str], shape: Sequence[int]
) -> dict[str, Any]:
    """Return those options that have other values where sides of frames are mirrored back."""
    result = Translation([], {}, [], [])
    for name, (side, axis) in _ALONG.items():
        block, key = name.split(".")
        span = options.get(block, {}).get(key)
        if span and side in sides:
            result.put(name, [shape[axis] - 1 - end for end in reversed(span)])
    prepared = options.get("preprocess", {})
    if sides and "shifts" in prepared:
        signs = [-1 if side in sides else 1 for side in ("columns", "rows")]
        result.put("preprocess.shifts_scale", signs)
    if len(sides) == 1 and "roll_deg" in prepared:
        result.put("preprocess.roll_deg", -prepared["roll_deg"])
    return result.options


def _sweep_notes(sweeps: Sequence[tuple[str, str, str]]) -> list[str]:
    """Say how each sweep is made here; two of different keys are one grid."""
    if len({key for _, key, _ in sweeps}) == len(sweeps) == 2:
        names, keys, values = zip(*sweeps, strict=True)
        words = (f"{key} {value}" for key, value in zip(keys, values, strict=True))
        return [f"{', '.join(names)}: tomopipe sweep {' '.join(words)}"]
    return [f"{name}: tomopipe sweep {key} {value}" for name, key, value in sweeps]


class _Sweep(list[Any]):
    """Several values of one parameter, which HTTomo compares."""

    def __str__(self) -> str:
        return as_span(self)


def _is_default(value: str, default: str) -> bool:
    with suppress(ValueError):
        return float(value) == float(default)
    return value == default


def _converted(value: Any, rule: str) -> Any:
    types: dict[str, Callable[[Any], Any]] = {"text": str, "int": int, "float": float}
    if rule in types:
        return types[rule](value)
    if rule.startswith("="):
        return rule[1:]
    if rule.startswith("*"):
        return float(f"{float(value) * float(rule[1:]):.9g}")
    pairs = dict(pair.split("=") for pair in (_FILTERS if rule == "filter" else rule).split())
    word = pairs[str(value).lower()]
    return {"true": True, "false": False}.get(word, word)


@cache
def table() -> dict[str, dict[str, str]]:
    """Return the lines of the table by the key of the other program."""
    with Path(__file__).with_name("other_programs.tsv").open(encoding="utf-8", newline="") as file:
        return {row["theirs"]: row for row in csv.DictReader(file, delimiter="\t")}


def translated(path: Path) -> Translation:
    """Translate the options of nabu.conf (INI) or a process list of HTTomo (YAML) without defaults.

    TomopipeError if the file is neither, or has a value that ours cannot have.
    """
    with on_os_error(
        f"{path}: cannot be read", " --from takes nabu.conf or HTTomo's process list."
    ):
        text = no_pipe(path).read_text(encoding="utf-8", errors="replace")
    result = Translation([], {}, [], [])
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        (_httomo if is_yaml else _nabu)(text, path, result)
    except (IniError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        kind = "process list of HTTomo, a list of methods" if is_yaml else "nabu.conf"
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TomopipeError(f"{path}: cannot be read as a {kind} ({why})") from None
    result.notes.extend(_sweep_notes(result.sweeps))
    prepared = result.options.get("preprocess", {})
    if prepared.get("phase", {}).get("method") and not prepared.get("minus_log", True):
        prepared["minus_log"] = True
        result.notes.append("no logarithm after phase retrieval: no equivalent, always applied")
    blocks = {"campaign": {"scans": ["raw"]}} | result.options
    config = parse_config(blocks, source=f"{path}, as options of tomopipe")
    options = config.model_dump(exclude_defaults=True, exclude={"campaign"})
    if config.preprocess.phase.method == "none":
        options.get("preprocess", {}).pop("phase", None)
    return result._replace(options={block: keys for block, keys in options.items() if keys})


def _nabu(text: str, path: Path, result: Translation) -> None:
    parser = ConfigParser(inline_comment_prefixes=("#",), interpolation=None)
    parser.read_string(text)
    conf = {f"{part}.{k}": v for part in parser.sections() for k, v in parser[part].items()}
    if location := conf["dataset.location"]:
        result.scans.append(str((path.parent / location).absolute()))
    usual = {
        name: row["default"]
        for name, row in table().items()
        if row["default"] and re.match(r"(dataset|preproc|phase|reconstruction|output)\.", name)
    }
    if conf.get("preproc.flatfield", "1").lower() in ("1", "true"):
        usual["preproc.normalize_srcurrent"] = "1"  # since nabu 2024.1
    for name, value in (usual | {name: value for name, value in conf.items() if value}).items():
        if name in table() or not re.match(r"(output|pipeline|postproc|resources|about)\.", name):
            result.add(name, value, table().get(name))
    if angles := conf.get("reconstruction.angles_file"):
        result.put("input.angles", str((path.parent / angles).absolute()))
    shifts = conf.get("reconstruction.translation_movements_file", "")
    if re.search(r"://|\?|\.h5|\.hdf5|\.nx", shifts):
        name = "reconstruction.translation_movements_file"
        result.add(name, shifts, {"remark": "preprocess.shifts is a text file of these columns"})
    elif shifts:
        result.put("preprocess.shifts", str((path.parent / shifts).absolute()))
    if conf.get("preproc.ccd_filter_enabled", "0").lower() in ("1", "true"):
        threshold = conf.get("preproc.ccd_filter_threshold") or "0.04"
        result.put("preprocess.zingers.threshold", float(threshold))
    for part in conf.get("preproc.sino_rings_options", "").split(";"):
        key, _, value = (word.strip(" '\"") for word in part.partition("="))
        result.add(f"sino_rings_options.{key}", value, table().get(f"sino_rings_options.{key}"))
    for part in conf.get("dataset.overwrite_metadata", "").split(";"):
        _put_number(part, result)
    cor = conf.get("reconstruction.rotation_axis_position", "")
    if re.fullmatch(r"[\d.]+", cor):
        name = "reconstruction.rotation_axis_position"
        result.add(name, cor, {"remark": f"tomopipe cor set SCAN {cor} ({_MIRRORED})"})
    _put_sizes(conf, result)
    _put_mask_and_stripes(conf, result)


def _put_mask_and_stripes(conf: Mapping[str, str], result: Translation) -> None:
    """Translate the unsharp mask, and the double flat field where there is no other ring filter."""
    coeff, sigma = (float(conf.get(f"phase.unsharp_{key}") or 0) for key in ("coeff", "sigma"))
    method = conf.get("phase.unsharp_method") or "gaussian"
    if coeff and sigma and method == "gaussian":
        result.put("preprocess.phase.unsharp_coeff", coeff)
        result.put("preprocess.phase.unsharp_sigma", sigma)
    elif coeff:
        what = f"phase.unsharp_coeff {coeff:g} (sigma {sigma:g}, {method})"
        result.notes.append(
            f"{what}: preprocess.phase.unsharp_coeff needs a sigma, and is gaussian"
        )
    if conf.get("preproc.double_flatfield", "0").lower() in ("", "0", "false"):
        return
    stripes = result.options.get("preprocess", {}).get("stripes", {}).get("method")
    if stripes:
        result.notes.append(f"preproc.double_flatfield 1: no second filter beside {stripes}")
    else:
        result.put("preprocess.stripes.method", "double-flat")


def _put_number(text: str, result: Translation) -> None:
    """Translate `energy = 19 kev`."""
    match = re.fullmatch(r"\s*(\w+)\s*=\s*([-+.\de]+)\s*(\w+)\s*", text)
    key = _OUR_NUMBERS.get(match[1], "") if match else ""
    number = NUMBERS.get(key)
    factors = {number.unit: 1.0, **number.others} if number else {}
    factor = {unit.lower(): factor for unit, factor in factors.items()}
    if match and match[3].lower() in factor:
        rule = f"*{factor[match[3].lower()]}"
        result.put(f"input.{key}", _converted(match[2], rule))
    elif text.strip():
        result.notes.append(f"dataset.overwrite_metadata {text.strip()}: see input")


def _put_sizes(conf: Mapping[str, str], result: Translation) -> None:
    """Translate binning and the part of the volume; both programs include its ends."""
    across, along = (conf.get(f"dataset.{key}") or "1" for key in ("binning", "binning_z"))
    if across == along:
        result.put("full_recon.binning", int(across))
    else:
        result.notes.append(f"dataset.binning {across}, binning_z {along}: full_recon.binning")
    for axis, key in {"z": "rows", "x": "crop_x", "y": "crop_y"}.items():
        first = conf.get(f"reconstruction.start_{axis}") or "0"
        last = conf.get(f"reconstruction.end_{axis}") or "-1"
        if first.isdecimal() and last.isdecimal() and across == "1":
            result.put(f"full_recon.{key}", [int(first), int(last)])
        elif (first, last) not in (("0", "-1"), ("first", "last")):
            result.notes.append(f"reconstruction.start_{axis}, end_{axis}: full_recon.{key}")


class _Loader(yaml.SafeLoader):
    """YAML with HTTomo's tags of sweeps."""


def _sweep(loader: Any, _: str, node: yaml.Node) -> _Sweep:
    if isinstance(node, yaml.SequenceNode):
        return _Sweep(loader.construct_sequence(node))
    span = loader.construct_mapping(node)
    start, step = span["start"], span["step"]
    n_values = math.ceil((span["stop"] - start) / step) if step else 0  # the end is excluded
    return _Sweep(start + step * i for i in range(n_values))


_Loader.add_multi_constructor("!", _sweep)


def _httomo(text: str, _: Path, result: Translation) -> None:
    content = yaml.load(text, _Loader)
    if not (isinstance(content, list) and content):
        raise TypeError(f"got {str(content)[:40]}")
    steps = [(step["method"], step.get("parameters") or {}) for step in content]
    for method, parameters in steps:
        own = "retrieve_phase" if "alpha" in parameters else method
        row = table().get(own, {})
        if method == "standard_tomo":
            _put_loader(parameters, result)
        elif row.get("here") or row.get("default") == "any":
            result.add(method, "", row)
            for name, value in parameters.items():
                other = table().get(f"{method}.{name}") or table().get(f"*.{name}")
                is_of_search = other is None and method.startswith("find_center")
                # the result of another method
                if not (is_of_search or str(value).startswith("${{")):
                    result.add(f"{method}.{name}", value, other)
        else:
            result.notes.append(f"{method}: {row.get('remark') or 'no equivalent'}")
    takes_log = any(
        method in _WITH_LOG or p.get("minus_log") or p.get("neglog") for method, p in steps
    )
    result.put("preprocess.minus_log", takes_log)


def _put_loader(parameters: Mapping[str, Any], result: Translation) -> None:
    """Translate the paths of the data, and the part of the frames."""
    data, angles = parameters.get("data_path"), parameters.get("rotation_angles")
    image_key = parameters.get("image_key_path")
    is_named = data not in (None, "auto")
    if is_named:
        result.put("input.paths", {"data": data})
        if image_key not in (None, "auto"):
            result.put("input.paths.image_key", image_key)
    if isinstance(angles, Mapping) and (span := angles.get("user_defined")):
        ends = {"start": span["start_angle"], "stop": span["stop_angle"]}
        result.put("input.angles", {end: float(angle) for end, angle in ends.items()})
    elif isinstance(angles, Mapping):
        result.put("input.paths.angles" if is_named else "input.angles", angles["data_path"])
    for kind in ("flats", "darks"):
        source = parameters.get(kind)
        if source == "ignore":
            result.put(f"preprocess.{kind}", "none")
        elif isinstance(source, Mapping):
            result.put(f"input.paths.{kind}", source["data_path"])
            if source["file"] != "input_data":
                result.put(f"preprocess.{kind}", source["file"])
    for axis, key in {"detector_y": "full_recon.rows", "detector_x": "input.columns"}.items():
        span = (parameters.get("preview") or {}).get(axis) or {}
        first, stop = (span.get("start") or 0, span.get("stop")) if span != "mid" else ("mid", "")
        if isinstance(first, int) and isinstance(stop, int):
            result.put(key, [first, stop - 1])  # HTTomo excludes the last one
        elif first or stop:
            result.notes.append(f"preview.{axis} {span}: {key}, both ends included")
    if subset := parameters.get("continuous_scan_subset"):
        result.notes.append(f"continuous_scan_subset {subset}: input.frames, or skip_projections")
