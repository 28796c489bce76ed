"""The configuration: one block per step, every key with its type, unit, range, default, meaning.

Defaults are defined only here; `make docs` writes config/config.yaml and config/README.md from it.
"""

# ruff: noqa: F401 - names for the other rooms
from tomopipe.config.base import Block, not_carried, option
from tomopipe.config.blocks import InputBlock, InventoryBlock, ScanGlob
from tomopipe.config.cor_blocks import (
    FixCorBlock,
    PredictCorBlock,
    ResolveCorBlock,
    TryReconBlock,
)
from tomopipe.config.parse import (
    Config,
    OverrideBlock,
    StepOptions,
    for_one_scan,
    load_yaml,
    override_for,
    parse_config,
    problems_of,
    read_config,
    with_file,
    with_skipped,
)
from tomopipe.config.preprocess import PreprocessBlock
from tomopipe.config.site_corrections import Region, SiteCorrection
from tomopipe.config.step_blocks import ExportStarBlock, FullReconBlock, StitchBlock
