"""The whole configuration, and what differs for some scans."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, ValidationError, model_validator

from tomopipe.config.base import Block
from tomopipe.config.blocks import (
    CampaignBlock,
    ExportStarBlock,
    FixCorBlock,
    FullReconBlock,
    InputBlock,
    InventoryBlock,
    PredictCorBlock,
    ReportBlock,
    ResolveCorBlock,
    StorageBlock,
    TryReconBlock,
)
from tomopipe.config.preprocess import PreprocessBlock

OVERRIDABLE = ("input", "preprocess", "full_recon")


class OverrideBlock(Block):
    """Other options for some scans; where several overrides apply the last wins."""

    scans: list[str] = Field([], description="Names of scans, or patterns such as tooth_*.")
    series: list[str] = Field([], description="Series, or patterns; with scans: any of both.")
    input: dict[str, Any] = Field({}, description="Keys of input that differ.")
    preprocess: dict[str, Any] = Field(
        {}, description="Keys of preprocess that differ, blocks within it included."
    )
    full_recon: dict[str, Any] = Field(
        {}, description="Keys of full_recon that differ; all but output."
    )

    @model_validator(mode="after")
    def _of_some_scans(self) -> "OverrideBlock":
        if not (self.scans or self.series):
            raise ValueError("needs scans or series")
        if "output" in self.full_recon:
            raise ValueError("full_recon.output is the same for all scans of a campaign")
        return self

    def applies(self, scan: str, series: str) -> bool:
        """Tell whether a scan is among those meant."""
        named = ((scan, self.scans), (series, self.series))
        return any(fnmatchcase(name, pattern) for name, some in named for pattern in some)


class Config(Block):
    """The whole configuration; only `campaign.scans` is required."""

    campaign: CampaignBlock
    input: InputBlock = InputBlock()
    storage: StorageBlock = StorageBlock()
    inventory: InventoryBlock = InventoryBlock()
    preprocess: PreprocessBlock = PreprocessBlock()
    try_recon: TryReconBlock = TryReconBlock()
    predict_cor: PredictCorBlock = PredictCorBlock()
    fix_cor: FixCorBlock = FixCorBlock()
    resolve_cor: ResolveCorBlock = ResolveCorBlock()
    full_recon: FullReconBlock = FullReconBlock()
    export_star: ExportStarBlock = ExportStarBlock()
    report: ReportBlock = ReportBlock()
    overrides: list[OverrideBlock] = Field(
        [],
        description="Other input, preprocess and full_recon options for some scans.",
    )

    @model_validator(mode="after")
    def _overrides_fit(self) -> "Config":
        for number, override in enumerate(self.overrides):
            for block in OVERRIDABLE:
                try:
                    _changed(getattr(self, block), getattr(override, block))
                except ValidationError as error:
                    first = error.errors()[0]
                    key = ".".join(map(str, (block, *first["loc"])))
                    got = f"got {first['input']!r}; " if first["loc"] else ""
                    raise ValueError(
                        f"overrides {number + 1}: {key}: {got}{first['msg']}"
                    ) from None
        return self

    def for_scan(self, scan: str, series: str) -> "Config":
        """Return the configuration of one scan: with the overrides that apply to it."""
        blocks = {block: getattr(self, block) for block in OVERRIDABLE}
        for override in self.overrides:
            if override.applies(scan, series):
                for block, own in blocks.items():
                    blocks[block] = _changed(own, getattr(override, block))
        return self.model_copy(update=blocks)


def _changed(block: Block, changes: Mapping[str, Any]) -> Block:
    """Return a block with some keys changed, those of blocks within it one by one."""
    if not changes:
        return block
    values = block.model_dump()
    for key, value in changes.items():
        inner = getattr(block, key, None)
        merge = isinstance(inner, Block) and isinstance(value, Mapping)
        values[key] = {**values[key], **value} if merge else value
    return type(block).model_validate(values)
