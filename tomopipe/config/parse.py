"""The whole configuration, with overrides for some scans; reads it, reports problems by key."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import reduce
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from tomopipe.config.base import Block, option, plain
from tomopipe.config.blocks import (
    CampaignBlock,
    InputBlock,
    InventoryBlock,
    PathsBlock,
    StorageBlock,
)
from tomopipe.config.cor_blocks import (
    FixCorBlock,
    PredictCorBlock,
    ResolveCorBlock,
    TryReconBlock,
)
from tomopipe.config.preprocess import PreprocessBlock
from tomopipe.config.site_corrections import CORRECTIONS_OF_SITES, of_site
from tomopipe.config.step_blocks import (
    ExportStarBlock,
    FullReconBlock,
    HooksBlock,
    ReportBlock,
    StitchBlock,
    WatchBlock,
)
from tomopipe.entry_points import OF_ANOTHER_PACKAGE, installed
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.volume_formats import IN_TIME

if TYPE_CHECKING:
    import yaml  # jobs do not load it

OVERRIDABLE = ("input", "preprocess", "try_recon", "full_recon")


class OverrideBlock(Block):
    """Other options for some scans; where several overrides apply the last wins."""

    scans: list[str] = option([], "Names of scans, or patterns such as tooth_*.")
    series: list[str] = option([], "Series, or patterns; with scans: either.")
    input: dict[str, Any] = option({}, "Keys of input that differ.")
    preprocess: dict[str, Any] = option(
        {}, "Keys of preprocess that differ, blocks within it included."
    )
    try_recon: dict[str, Any] = option({}, "Keys of try_recon that differ.")
    full_recon: dict[str, Any] = option({}, "Keys of full_recon that differ; all but output.")

    @model_validator(mode="after")
    def _of_some_scans(self) -> "OverrideBlock":
        if not (self.scans or self.series):
            raise ValueError("needs scans or series")
        if "output" in self.full_recon:
            raise ValueError("full_recon.output is the same for all scans of a campaign")
        if self.full_recon.get("value_range") == "campaign":
            raise ValueError("full_recon.value_range: campaign is for all scans: set it above")
        return self

    def applies(self, scan: str, series: str) -> bool:
        """Tell whether the override applies to a scan."""
        rules = ((scan, self.scans), (series, self.series))
        return any(
            name == pattern or fnmatchcase(name, pattern)
            for name, patterns in rules
            for pattern in patterns
        )


class StepOptions(Block):
    """The blocks given to steps, each with its defaults."""

    campaign: CampaignBlock | None = None
    # the defaults need no validation, for which pydantic would prepare each block: 0.03 CPU s
    input: InputBlock = InputBlock.model_construct()
    storage: StorageBlock = StorageBlock.model_construct()
    inventory: InventoryBlock = InventoryBlock.model_construct()
    preprocess: PreprocessBlock = PreprocessBlock.model_construct()
    try_recon: TryReconBlock = TryReconBlock.model_construct()
    predict_cor: PredictCorBlock = PredictCorBlock.model_construct()
    fix_cor: FixCorBlock = FixCorBlock.model_construct()
    resolve_cor: ResolveCorBlock = ResolveCorBlock.model_construct()
    full_recon: FullReconBlock = FullReconBlock.model_construct()
    stitch: StitchBlock = StitchBlock.model_construct()
    export_star: ExportStarBlock = ExportStarBlock.model_construct()
    report: ReportBlock = ReportBlock.model_construct()
    watch: WatchBlock = WatchBlock.model_construct()
    hooks: HooksBlock = HooksBlock.model_construct()

    def as_json(self, *blocks: str) -> str:
        """Return what differs from the defaults of blocks, as JSON for a step."""
        return self.model_dump_json(include=set(blocks), exclude_defaults=True)

    @property
    def volume_pixel_size_um(self) -> float | None:
        """The pixel size of volumes: only values per cm depend on it."""
        return self.export_star.pixel_size_um if self.full_recon.unit == "per_cm" else None

    def reading(self) -> dict[str, Any]:
        """Return the options with which the inventory reads a scan."""
        return self.model_dump(
            include={"input": True, "preprocess": {"flats", "darks"}}, exclude_defaults=True
        )


class Config(StepOptions):
    """The whole configuration; only `campaign.scans` is required."""

    campaign: CampaignBlock
    overrides: list[OverrideBlock] = option(
        [],
        "Other input, preprocess, try_recon and full_recon options for some scans,"
        " such as [{scans: [rock_*], full_recon: {binning: 2}}].",
    )

    @model_validator(mode="after")
    def _of_swept_scans(self) -> "Config":
        if self.preprocess.roll_deg == "auto" and self.try_recon.every > 1:
            raise ValueError("preprocess.roll_deg: auto needs try_recon.every: 1, a sweep of each")
        return self

    def for_scan(self, scan: str, series: str) -> "Config":
        """Return the configuration of one scan, itself where nothing differs: with the overrides
        that match, in their order, and its name in the names of files.
        """
        applied = [override for override in self.overrides if override.applies(scan, series)]
        return self.with_options(*applied).named_for(scan, series)

    def of_part(self, **part: Any) -> "Config":
        """Return the configuration that reads a part of a file, by keys of `input`."""
        if "paths" in part:
            part["paths"] = PathsBlock(**part["paths"])
        return self.model_copy(update={"input": self.input.model_copy(update=part)})

    @property
    def integer_dtype(self) -> str | None:
        """Integer type of volumes, or of those of some scans; None: none has one."""
        types = [self.full_recon.dtype, *(part.full_recon.get("dtype") for part in self.overrides)]
        return next((str(each) for each in types if str(each).startswith("uint")), None)

    @model_validator(mode="after")
    def _one_unit_for_one_range(self) -> "Config":
        units = {part.full_recon.get("unit", self.full_recon.unit) for part in self.overrides}
        if self.full_recon.value_range == "campaign" and units - {self.full_recon.unit}:
            raise ValueError("full_recon.value_range: campaign needs one full_recon.unit for all")
        return self

    def format_of(self, stack: str) -> str:
        """Return the format of a stitched volume; one in time is always OME-Zarr."""
        return IN_TIME if stack in self.stitch.time else self.full_recon.output

    def named_files(self) -> list[str]:
        """Return the files of flats, darks, angles or shifts as configured, with patterns."""
        preprocess = self.preprocess
        files = {*preprocess.reference_files, *preprocess.shift_files}
        return sorted(files | {*filter(None, [self.input.angle_list])})

    @property
    def has_patterns(self) -> bool:
        """Whether a file name has a pattern, and so differs for each scan or series."""
        return any("{" in path for path in self.named_files())

    def named_for(self, scan: str, series: str) -> "Config":
        """Return the configuration with {scan} and {series} in file names replaced."""
        if not self.has_patterns:
            return self

        def named(source: Any) -> Any:
            if isinstance(source, list):
                return [named(item) for item in source]
            return source.format(scan=scan, series=series) if isinstance(source, str) else source

        files = {key: named(getattr(self.preprocess, key)) for key in ("flats", "darks", "shifts")}
        blocks = {
            "input": self.input.model_copy(update={"angles": named(self.input.angles)}),
            "preprocess": self.preprocess.model_copy(update=files),
        }
        return self.model_copy(update=blocks)

    def with_roll(self, measured_deg: float) -> "Config":
        """Return the configuration with a measured roll in place of auto."""
        preprocess = self.preprocess.with_roll(measured_deg)
        is_same = preprocess is self.preprocess
        return self if is_same else self.model_copy(update={"preprocess": preprocess})

    def with_options(self, *overrides: OverrideBlock) -> "Config":
        """Return the configuration with overrides applied; the last one takes precedence.

        Raises TomopipeError if overrides that are valid one by one are invalid together.
        """
        if not overrides:
            return self
        blocks = {block: getattr(self, block) for block in OVERRIDABLE}
        for override, (block, before) in product(overrides, blocks.items()):
            if changes := getattr(override, block):
                options = merged(blocks[block].model_dump(), changes)
                try:
                    blocks[block] = type(before).model_validate(options)
                except ValidationError as error:
                    text = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise TomopipeError(
                        f"the overrides of one scan do not fit together: {text}"
                    ) from None
        return self.model_copy(update=blocks)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return `old` updated by the keys of `new`, recursively in mappings.

    Of `input.angles` a new stop replaces step, and a new step stop: both are too many.
    """
    result = old | new
    for key in old.keys() & new.keys():
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            others = {"stop": "step", "step": "stop"} if key == "angles" else {}
            before = {k: v for k, v in old[key].items() if others.get(k) not in new[key]}
            result[key] = merged(before, new[key])
    return result


# advice on one scan, of readers and predict_cor, by which options change for all
_OF_ALL = re.compile(
    r"set input\.angles(?: to|:) (\{start: [^}]*\})"
    r"|(?<!\], )input: (\{skip_projections: [^}]*\})"  # not that of an override
    r"|set input\.(angle_unit: \w+)|\(input\.(angles)\)"
    r"|set preprocess\.(flats|darks) to a file that has them, or to none"
    r"|(preprocess: \{(?:flats|darks): [^{}]*\})"
)
# Numbers of YAML 1.1 that nobody means: octal, and of base 60.
_OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|[\d_]+(:[0-5]?\d)+(\.[\d_]*)?)", re.ASCII)
# Names of values in other programs.
_ELSEWHERE = {
    "munch": "fourier-wavelet",  # nabu
    "fw": "fourier-wavelet",  # TomoGUI
    "vo-all": "vo",
    "gpu": "cuda",
}

# position of a value in the configuration: keys, and numbers of items
KeyPath = tuple[int | str, ...]


def parse_config(data: Mapping[str, Any], *, source: str = "config") -> Config:
    """Check a configuration, blocks as read from YAML, and fill in the defaults.

    A TomopipeError names `source`, and has one line per problem: key, value, what is allowed,
    nearest match.
    """
    try:
        config = Config.model_validate(_blocks(data, source))
        problems = [
            f"overrides {number}: {line}"
            for number, override in enumerate(config.overrides, start=1)
            for line in problems_of(config, override)
        ]
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error)))
    if problems:
        raise TomopipeError("\n".join(f"{source}: {line}" for line in problems))
    return config


def _blocks(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the blocks without empty ones, which have their defaults."""
    if not isinstance(data, Mapping):
        raise TomopipeError(
            f"{source}: expected blocks of keys such as campaign:, got {_shown(data)}"
        )
    keys = Config.model_fields
    return {key: block for key, block in data.items() if block is not None or key not in keys}


def problems_of(config: Config, override: OverrideBlock) -> list[str]:
    """Describe the problems of overrides of a configuration, a line for each."""
    blocks = {
        block: merged(getattr(config, block).model_dump(), getattr(override, block))
        for block in OVERRIDABLE
    }
    try:
        Config.model_validate({"campaign": config.campaign, **blocks})
    except ValidationError as error:
        return list(dict.fromkeys(_problems(error)))
    return []


def read_config(path: Path) -> Config:
    """Read and check a YAML configuration file."""
    return parse_config(read_document(path), source=str(path))


def read_document(path: Path) -> Any:
    """Read a YAML configuration file without checking keys; {} if it is empty."""
    try:
        text = no_pipe(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise TomopipeError(
                f"{folder}: no such folder. Correct the path of the campaign folder."
            ) from None
        if path.name != "config.yaml":
            raise TomopipeError(f"{path}: no such configuration file. Correct its path.") from None
        raise TomopipeError(
            f"no {path.name} in {folder}, so this is no campaign. Start one: tomopipe init "
            "mycampaign 'FOLDER/*.h5' && tomopipe run mycampaign; or name its folder (another "
            "configuration file: -c)."
        ) from None
    except UnicodeDecodeError as error:
        n_line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise TomopipeError(
            f"{path}: line {n_line}: expected UTF-8 text, got the byte 0x{byte:02x}. Save it as "
            "UTF-8."
        ) from None
    except OSError as error:
        text = f"{path}: cannot be read ({error.strerror}); expected a YAML file."
        raise TomopipeError(text) from None
    data = load_yaml(text, str(path))
    return {} if data is None else data


def override_for(scan: str, options: str) -> str:
    """Return the line of a configuration that sets options, in YAML, for one scan."""
    return f"overrides: [{{scans: [{json.dumps(scan, ensure_ascii=False)}], {options}}}]"


def for_one_scan(advice: str, scan: str) -> str:
    """Return advice on angles, projections, flats or darks as options of one scan alone."""

    def as_override(options: re.Match[str]) -> str:
        if options[2]:
            return override_for(scan, f"input: {options[2]}")
        if options[3]:
            return "set " + override_for(scan, f"input: {{{options[3]}}}")
        if options[4]:
            return f"({override_for(scan, 'input: {angles: ...}')})"
        if options[5]:
            line = override_for(scan, f"preprocess: {{{options[5]}: FILE}}")
            return f"set {line} with a FILE that has them, or none"
        if options[6]:
            return override_for(scan, options[6])
        return "set " + override_for(scan, f"input: {{angles: {options[1]}}}")

    return _OF_ALL.sub(as_override, advice)


def with_skipped(advice: str, skipped: Sequence[int | Sequence[int]]) -> str:
    """Return advice on projections to skip with those before them that are `skipped` already."""

    def joined(option: re.Match[str]) -> str:
        entries = [*skipped, *load_yaml(option[1], "advice")]
        texts = dict.fromkeys(str(n if isinstance(n, int) else [*n]) for n in entries)
        return f"{{skip_projections: [{', '.join(texts)}]}}"

    return re.sub(r"\{skip_projections: (\[[^}]*\])\}", joined, advice)


def load_yaml(text: str, source: str) -> Any:
    """Return the content of a YAML text; `source` is named in errors."""
    import yaml

    try:
        _refuse_traps(yaml.compose(text, yaml.SafeLoader), source)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = f"{where}{error.problem}{_yaml_remedy(error)}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates and numbers
        problem = " ".join(str(error).split())
    raise TomopipeError(f"{source}: cannot be read as YAML: {problem}")


def _yaml_remedy(error: "yaml.MarkedYAMLError") -> str:
    """Say what to write instead, as the end of a sentence; "" if it is not one of the usual."""
    text = f"{error.context} {error.problem}"
    if "\\t" in text:
        return "; indent with spaces, not tabs"
    is_pattern = "alias" in text or text.endswith("but got '?'")
    return "; write patterns in quotes: '*_001', 'core_00?'" if is_pattern else ""


def _refuse_traps(node: "yaml.Node | None", source: str) -> None:
    """Raise if a key is twice in a block: YAML would drop the first without a word.

    Also if it would read a number with zeros in front as octal, or one with colons as base 60.
    """
    import yaml

    if isinstance(node, yaml.ScalarNode) and not node.style and _OTHER_BASE.fullmatch(node.value):
        text, value = node.value, yaml.safe_load(node.value)
        decimal = text.replace("_", "").lstrip("+-0") or "0"
        if ":" in text or int(decimal) != abs(value):
            number = f"write {decimal} for a number, " * (":" not in text)
            raise TomopipeError(
                f"{source}: line {node.start_mark.line + 1}: YAML reads {text} as {value}; "
                f"{number}'{text}' in quotes for a text"
            )
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_traps(item, source)
    elif isinstance(node, yaml.MappingNode):
        before: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in before:
                first_line, first = before[name]
                raise TomopipeError(
                    f"{source}: lines {first_line} and {line}: {name} appears twice; write one "
                    f"{_joined(name, first, value)}"
                )
            before[name] = line, value
            _refuse_traps(value, source)


def _joined(key: str, first: "yaml.Node", second: "yaml.Node") -> str:
    """Say what replaces two values of a key: lists in brackets, as advice has them, as one list."""
    import yaml

    both = [node for node in (first, second) if isinstance(node, yaml.SequenceNode)]
    if len(both) < 2:
        return "block with the keys of both."
    entries = ", ".join(
        str(node.start_mark.buffer)[node.start_mark.pointer + 1 : node.end_mark.pointer - 1]
        for node in both
    )
    text = f": {key}: [{entries}]" * all(node.flow_style for node in both)
    return f"list with the entries of both{text or '.'}"


def with_file(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the blocks of a file, updated key by key by `config`, from the command line."""
    return merged(_blocks(read_document(path), str(path)), config)


_SHOULD_BE = {
    "list_type": "should be a list: [one] or [one, another]",
    "bool_type": "should be yes or no",
    "string_type": "should be text: write names of digits in quotes",
    "invalid_key": "is not a key; if it is part of a number, write a decimal point: 85.5, not 85,5",
}


def _problems(error: ValidationError) -> Iterator[str]:
    """Return one line per key; all failed branches of a union are one problem."""
    refused: dict[str, tuple[KeyPath, Any, list[str]]] = {}
    for problem in error.errors():
        key_path, value, kind = _key_path(problem["loc"]), problem["input"], problem["type"]
        key, message = _label(key_path), problem["msg"].removeprefix("Value error, ")
        if kind == "string_type" and isinstance(value, Mapping) and _fields_at(key_path):
            continue  # a block was meant, whose own problems are reported
        if kind == "extra_forbidden" and str(problem["loc"][-1]).isdigit():  # of 0,08
            yield f"{_label(key_path[:-1])}: got {problem['loc'][-1]}; {_SHOULD_BE['invalid_key']}"
        elif kind == "extra_forbidden":
            keys, more = list(_fields_at(key_path[:-1])), ""
            if key_path[:-1] == ("preprocess",):
                keys, more = [*keys, *installed(CORRECTIONS_OF_SITES)], OF_ANOTHER_PACKAGE
            elif key in ("slurm", "cluster", "resources", "set-resources"):
                more = "; what jobs request of SLURM is in slurm/profile.yaml"
            hint = nearest(str(problem["loc"][-1]), keys)
            yield f"{key}: unknown key; {hint}allowed here: {', '.join(keys)}{more}"
        elif kind == "missing":
            yield f"{key}: is required"
        elif not key_path:  # problems of several blocks together
            yield message
        else:
            if kind in ("model_type", "dict_type"):
                fields = ", ".join(_fields_at(key_path)) or "{key: value}"
                message = f"should be a block of these keys: {fields}"
            message = _SHOULD_BE.get(kind, message).removeprefix("Input ")
            message = re.sub(r"List (.* items) after validation, not \d+", r"\1", message)
            refused.setdefault(key, (key_path, value, []))[2].append(message)
    for key, (key_path, value, messages) in refused.items():
        message = ", or ".join(dict.fromkeys(messages))
        hint = _as_value(value) or nearest(str(value or ""), re.findall(r"'([^']+)'", message))
        # of keys that do not fit
        got = "" if isinstance(value, Mapping) else f"got {_shown(value)}; "
        yield f"{key}: {got}{message}; {hint}{_meaning(key_path)}".rstrip("; ")


def _as_value(text: Any) -> str:
    """Return a hint for a number, list or block given as text, as by `--config`."""
    with suppress(TomopipeError):
        if isinstance(text, str) and isinstance(load_yaml(text, ""), int | float | list | dict):
            return (
                "write it into config.yaml, without quotes: Snakemake turns values in braces in "
                "--config into text; "
            )
    return ""


def _shown(value: Any) -> str:
    """Return a value as shown in an error."""
    return f"{value!r:.200}"


def nearest(word: str, choices: list[str]) -> str:
    """Suggest the choice most similar to a word, as part of a sentence; "" if none is.

    Another number is no slip: float64 is not float16.
    """
    digits = re.sub(r"\D", "", word)
    choices = [c for c in choices if not digits or re.sub(r"\D", "", c) in ("", digits)]
    ours = _ELSEWHERE.get(word.lower(), "")
    close = [ours] if ours in choices else difflib.get_close_matches(word.lower(), choices, 1)
    return f"did you mean {close[0]}? " if close else ""


def _key_path(location: KeyPath) -> KeyPath:
    """Return the keys, and items that may be blocks, of pydantic's path; the last may be unknown.

    If another value is allowed instead of a block, the path also has the types that were tried.
    """
    key_path: KeyPath = ()
    allowed, is_tried = Config, False
    for part in location:
        block, inner = _block_of(allowed), _inside(allowed, part)
        if isinstance(part, int):
            is_known = _block_of(inner) is not None
        else:
            is_known = block is not None and (is_tried or block is allowed)
        if is_known:
            key_path, allowed, is_tried = (*key_path, part), inner, False
        elif block and block.__name__ in str(part):
            is_tried = True
        else:
            break
    return key_path


def _label(key_path: KeyPath) -> str:
    """Return a path for people; items of lists count from 1."""
    return "".join(f" {p + 1}" if isinstance(p, int) else f".{p}" for p in key_path).lstrip(".")


def _inside(annotation: Any, part: int | str) -> Any:
    """Return the annotation of a key or item within an annotation; None if there is none."""
    if isinstance(part, int):
        return get_args(annotation)[0] if get_origin(annotation) is list else None
    block = _block_of(annotation)
    field = block.model_fields.get(part) if block else None
    if field is None and block is PreprocessBlock:
        with suppress(TomopipeError):  # which was reported
            correction = of_site(part)
            return correction and correction.entry.options
    return field.annotation if field else None


def _block_of(annotation: Any) -> type[BaseModel] | None:
    """Return the block in an annotation, alone or beside other types."""
    kinds = () if get_origin(annotation) is list else get_args(annotation)
    for kind in (annotation, *kinds):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _fields_at(key_path: KeyPath) -> dict[str, Any]:
    """Return the fields of the block at a path; empty without a block."""
    block = _block_of(reduce(_inside, key_path, Config))
    return block.model_fields if block else {}


def _meaning(key_path: KeyPath) -> str:
    """Return the meaning of a key, or of the list that contains an item."""
    while isinstance(key_path[-1], int):
        key_path = key_path[:-1]
    field = _fields_at(key_path[:-1]).get(str(key_path[-1]))
    return f"it means: {field.description}" if field is not None and field.description else ""


def when_absent(key: str) -> Any:
    """Return the value of a key, such as full_recon.filter, that `effective` omits."""
    model: Any = Config
    for name in key.split("."):
        if name not in getattr(model, "model_fields", {}):
            return None
        field = model.model_fields[name]
        model = field.annotation
    value = None if field.is_required() else field.default
    return None if isinstance(value, Block) else plain(value)
