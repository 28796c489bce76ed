"""What all blocks of the configuration share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _file_pattern(value: str) -> str:
    braces = re.sub(r"\{(scan|series)\}", "", value)
    if "{" in braces or "}" in braces:
        raise ValueError("must have nothing but {scan} or {series} in braces")
    return value


FilePattern = Annotated[str, AfterValidator(_file_pattern)]
"""Name of a file in which {scan} and {series} stand for those of each scan."""
