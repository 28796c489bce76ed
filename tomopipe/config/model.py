"""The whole configuration, and overrides for some scans."""

from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError, model_validator

from tomopipe.config.base import Block, is_dataset, option
from tomopipe.config.blocks import (
    CampaignBlock,
    ExportStarBlock,
    FixCorBlock,
    FullReconBlock,
    HooksBlock,
    InputBlock,
    InventoryBlock,
    PredictCorBlock,
    ReportBlock,
    ResolveCorBlock,
    StitchBlock,
    StorageBlock,
    TryReconBlock,
    WatchBlock,
)
from tomopipe.config.preprocess import PreprocessBlock
from tomopipe.errors import TomopipeError

OVERRIDABLE = ("input", "preprocess", "try_recon", "full_recon")


class OverrideBlock(Block):
    """Other options for some scans; where several overrides apply the last wins."""

    scans: list[str] = option([], "Names of scans, or patterns such as tooth_*.")
    series: list[str] = option([], "Series, or patterns; with scans: any of both.")
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
        return self

    def applies(self, scan: str, series: str) -> bool:
        """Tell whether the override applies to a scan."""
        named = ((scan, self.scans), (series, self.series))
        return any(
            name == pattern or fnmatchcase(name, pattern)
            for name, patterns in named
            for pattern in patterns
        )


class StepOptions(Block):
    """The blocks given to steps, each with its defaults."""

    campaign: CampaignBlock | None = None
    input: InputBlock = InputBlock()
    storage: StorageBlock = StorageBlock()
    inventory: InventoryBlock = InventoryBlock()
    preprocess: PreprocessBlock = PreprocessBlock()
    try_recon: TryReconBlock = TryReconBlock()
    predict_cor: PredictCorBlock = PredictCorBlock()
    fix_cor: FixCorBlock = FixCorBlock()
    resolve_cor: ResolveCorBlock = ResolveCorBlock()
    full_recon: FullReconBlock = FullReconBlock()
    stitch: StitchBlock = StitchBlock()
    export_star: ExportStarBlock = ExportStarBlock()
    report: ReportBlock = ReportBlock()
    watch: WatchBlock = WatchBlock()
    hooks: HooksBlock = HooksBlock()

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

    def for_scan(self, scan: str, series: str) -> "Config":
        """Return the configuration of one scan: the overrides that match are applied in order."""
        applied = [override for override in self.overrides if override.applies(scan, series)]
        return self.with_options(*applied).named_for(scan, series)

    def named_files(self) -> list[str]:
        """Return the files of flats, darks or angles as configured, with patterns."""
        angles = self.input.angles
        named = [angles] if isinstance(angles, str) and not is_dataset(angles) else []
        return sorted({*named, *self.preprocess.reference_files})

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

        flats, darks = named(self.preprocess.flats), named(self.preprocess.darks)
        blocks = {
            "input": self.input.model_copy(update={"angles": named(self.input.angles)}),
            "preprocess": self.preprocess.model_copy(update={"flats": flats, "darks": darks}),
        }
        return self.model_copy(update=blocks)

    def with_options(self, *overrides: OverrideBlock) -> "Config":
        """Return the configuration with overrides applied; the last one takes precedence.

        Raises TomopipeError if overrides that are valid one by one are invalid together.
        """
        blocks = {block: getattr(self, block) for block in OVERRIDABLE}
        for override in overrides:
            for block, before in blocks.items():
                blocks[block] = _changed(before, getattr(override, block))
        return self.model_copy(update=blocks)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return `old` updated by the keys of `new`, recursively in mappings."""
    result = old | new
    for key in old.keys() & new.keys():
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            result[key] = merged(old[key], new[key])
    return result


def _changed(block: Block, changes: dict[str, Any]) -> Block:
    if not changes:
        return block
    try:
        return type(block).model_validate(merged(block.model_dump(), changes))
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise TomopipeError(f"overrides that one scan has do not fit together: {text}") from None
