"""All corrections at once, and what they must know of a scan: the one list, for every test.

A new key of `preprocess` that is a correction gets a value here (tests/unit/prep/test_correct.py).
"""

from tomopipe.config import PreprocessBlock

EVERYTHING = {
    "flat_method": "interpolate",
    "bad_pixels": {"threshold": 0.5},
    "zingers": {"threshold": 0.2, "size_px": 5},
    "air_px": 2,
    "distortion": {"coefficients": [1.0, 5e-4]},
    "roll_deg": 1.0,
    "phase": {"method": "paganin", "delta_beta": 100.0},
    "hardening": [1.0, 0.1],
    "stripes": {"method": "fourier-wavelet"},
}
RING_CURRENT = {"ring_current": {"dataset": "/monitor/current"}}
"""Not among EVERYTHING: the scan must have this dataset."""
KNOWN = {"energy_kev": 20.0, "distance_mm": 10.0, "pixel_size_um": 5.0}
_NONE = {"flats", "darks", "minus_log", "half_acquisition"}  # no corrections to switch on


def keys_of_corrections() -> set[str]:
    """The keys of `preprocess` that switch a correction on: not those of another one's details."""
    fields = PreprocessBlock.model_fields
    details = {key for key, field in fields.items() if "only" in (field.json_schema_extra or {})}
    return {*fields} - details - _NONE
