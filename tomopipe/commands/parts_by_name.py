"""The parts of a scan in an HDF5 file of unknown layout, as far as their names are plain."""

import math
import re
from collections.abc import Iterable, Sequence

from tomopipe.scans.datasets import is_rotation
from tomopipe.scans.raw_state import REFERENCES
from tomopipe.scans.tree import Found

# words of names, such as a_1_flats.h5 or /entry/white_field
REFERENCE_WORD = re.compile(
    r"(?:^|[^a-z])(?:(?P<flats>flats?|flat_?fields?|ff|whites?)|(?P<darks>darks?|dark_?fields?))"
    r"(?![a-z])",
    re.IGNORECASE,
)


def parts_by_name(files: Iterable[Sequence[Found]]) -> dict[str, str]:
    """Return the keys of `input.paths` that are plain, alike in all files; `files`: their datasets.

    Frames are the only stack that is not named like flats or darks; these have frames of its size.
    Angles and image_key are as many as the frames, and the only ones or beside them.
    """
    first, *others = map(_parts, files)
    return {key: name for key, name in first.items() if all(o.get(key) == name for o in others)}


def stacks(datasets: Iterable[Found]) -> list[Found]:
    """Return the datasets that may be frames: angles x rows x columns."""
    return [found for found in datasets if len(found.shape) == 3 and min(found.shape) > 1]


def _parts(datasets: Sequence[Found]) -> dict[str, str]:
    found = stacks(datasets)
    frames = found if len(found) == 1 else [dataset for dataset in found if not _kind_of(dataset)]
    if len(frames) != 1 or frames[0].n_alike:
        return {}
    (data,) = frames
    alike = [
        dataset for dataset in datasets if dataset.shape[-2:] == data.shape[1:] and dataset != data
    ]
    lists = [
        dataset
        for dataset in datasets
        if max(dataset.shape) == data.shape[0] == math.prod(dataset.shape)
    ]
    keys = [
        dataset for dataset in lists if _last(dataset) == "image_key" and "int" in dataset.dtype
    ]
    candidates = {
        kind: [dataset for dataset in alike if _kind_of(dataset) == kind] for kind in REFERENCES
    }
    candidates |= {
        "image_key": keys,
        "angles": [dataset for dataset in lists if is_rotation(dataset.name)],
    }
    parts = {key: _only(several, data) for key, several in candidates.items()}
    return {"data": data.name} | {key: name for key, name in parts.items() if name}


def _only(several: Sequence[Found], data: Found) -> str:
    """Return the name of the only one, else of the only one beside the frames, or ""."""
    beside = [dataset for dataset in several if _folder(dataset) == _folder(data)]
    chosen = several if len(several) == 1 else beside
    return chosen[0].name if len(chosen) == 1 and not chosen[0].n_alike else ""


def _kind_of(dataset: Found) -> str:
    word = REFERENCE_WORD.search(_last(dataset))
    return (word.lastgroup or "") if word else ""


def _last(dataset: Found) -> str:
    return dataset.name.rpartition("/")[2]


def _folder(dataset: Found) -> str:
    return dataset.name.rpartition("/")[0]
