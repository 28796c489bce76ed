"""All corrections at once, by their examples, and what they must know of a scan."""

from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import CORRECTIONS

RING_CURRENT = {"ring_current": CORRECTIONS["ring_current"].example}
"""Not among EVERYTHING: the scan must have this dataset."""
SHIFTS = {"shifts": CORRECTIONS["shifts"].example}
"""Not among EVERYTHING, either: a file of the scan (tests/unit/prep/test_shifts.py)."""
EVERYTHING = {
    "flat_method": "interpolate",
    **{key: entry.example for key, entry in CORRECTIONS.items()},
    "stripes": {"method": "fourier-wavelet"},
}
del EVERYTHING["ring_current"], EVERYTHING["shifts"], EVERYTHING["minus_log"]
KNOWN = {"energy_kev": 20.0, "distance_mm": 10.0, "pixel_size_um": 5.0}
_NONE = {"flats", "darks", "minus_log", "half_acquisition"}  # no corrections to switch on


def keys_of_corrections() -> set[str]:
    """The keys of `preprocess` that switch a correction on: not those of another one's details."""
    fields = PreprocessBlock.model_fields
    details = {key for key, field in fields.items() if "only" in (field.json_schema_extra or {})}
    return {*fields} - details - _NONE
