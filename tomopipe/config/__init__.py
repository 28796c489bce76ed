"""The configuration: one block per step, every key with its type, unit, range, default, meaning.

The defaults are defined here only; `make docs` makes config/config.yaml and config/README.md of it.
"""

# ruff: noqa: F401 - names for the other rooms
from tomopipe.config.base import not_carried
from tomopipe.config.blocks import (
    METHODS,
    ExportStarBlock,
    FixCorBlock,
    FullReconBlock,
    InputBlock,
    InventoryBlock,
    PredictCorBlock,
    ResolveCorBlock,
    ScanGlob,
    TryReconBlock,
)
from tomopipe.config.cells import fault_of_key, is_option, option_keys, parse_cells
from tomopipe.config.model import Config, OverrideBlock, StepOptions
from tomopipe.config.parse import parse_config, parsed_texts, read_config, with_file
from tomopipe.config.preprocess import PreprocessBlock
from tomopipe.config.stitch_block import StitchBlock
