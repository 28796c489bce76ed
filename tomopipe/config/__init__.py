"""The configuration: one block per step, every key with its type, unit, range, default, meaning.

The defaults are defined here only; `make docs` makes config/config.yaml and config/README.md of it.
"""

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

__all__ = [
    "METHODS",
    "Config",
    "ExportStarBlock",
    "FixCorBlock",
    "FullReconBlock",
    "InputBlock",
    "InventoryBlock",
    "OverrideBlock",
    "PredictCorBlock",
    "PreprocessBlock",
    "ResolveCorBlock",
    "ScanGlob",
    "StepOptions",
    "StitchBlock",
    "TryReconBlock",
    "fault_of_key",
    "is_option",
    "not_carried",
    "option_keys",
    "parse_cells",
    "parse_config",
    "parsed_texts",
    "read_config",
    "with_file",
]
