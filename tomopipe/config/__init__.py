"""The configuration: one block per step, every key with its type, unit, range, default, meaning.

The defaults live here and nowhere else. `config/config.yaml` and `config/README.md` are made from
this package (``python -m tomopipe.config``) and a test holds the three together.
"""

from tomopipe.config.base import Block
from tomopipe.config.blocks import METHODS, PredictCorBlock, ScanGlob
from tomopipe.config.cells import (
    fault_of_key,
    is_option,
    nested,
    option_keys,
    parse_cells,
    value_of,
)
from tomopipe.config.model import OVERRIDABLE, Config, OverrideBlock
from tomopipe.config.parse import (
    parse_config,
    parsed_texts,
    read_config,
    read_document,
    with_file,
)
from tomopipe.config.preprocess import PreprocessBlock

__all__ = [
    "METHODS",
    "OVERRIDABLE",
    "Block",
    "Config",
    "OverrideBlock",
    "PredictCorBlock",
    "PreprocessBlock",
    "ScanGlob",
    "fault_of_key",
    "is_option",
    "nested",
    "option_keys",
    "parse_cells",
    "parse_config",
    "parsed_texts",
    "read_config",
    "read_document",
    "value_of",
    "with_file",
]
