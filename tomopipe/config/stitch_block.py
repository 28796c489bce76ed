"""The stitch block: vertical stitching."""

import re
from typing import Literal

from pydantic import field_validator

from tomopipe.config.base import Block, endless_tail, not_carried, option


class StitchBlock(Block):
    """Vertical stitching: scans of one sample at several heights, one volume for each stack."""

    stacks: dict[str, list[str]] = option(
        {},
        "Name of each stack and its scans in order of height, upwards or downwards: "
        "names, or patterns such as bone_* (in order of their numbers). Neighbours overlap.",
    )
    direction: Literal["auto", "down", "up"] = option(
        "auto",
        "Whether each scan continues the one before it towards higher detector rows "
        "(down) or lower ones (up); auto: found.",
    )
    overlap_rows: float | None = option(
        None, "Detector rows that neighbours share, to 10 rows or a tenth; null: found.", gt=0
    )
    match_intensity: bool = option(
        False, "Fit gain and offset of each scan to those before it, in the overlap."
    )

    @field_validator("stacks")
    @classmethod
    def _names_of_files(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name in value:
            bad = re.search(r"[/\x00-\x1f\x7f]", name) or not_carried(name) or endless_tail(name)
            if not name.strip() or name.startswith(".") or bad:
                raise ValueError(
                    f"the name of stack {name!r} becomes a file's: it must not be empty, begin "
                    "with a dot, contain / , { } <word> or control characters, or end in one text "
                    "20 times"
                )
        return value
