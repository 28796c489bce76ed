"""What all blocks of the configuration share."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
