"""All corrections at once, and what they must know of a scan."""

EVERYTHING = {
    "flat_method": "interpolate",
    "bad_pixels": {"threshold": 0.5},
    "zingers": {"threshold": 0.2},
    "air_px": 2,
    "distortion": {"coefficients": [1.0, 5e-4]},
    "roll_deg": 1.0,
    "phase": {"method": "paganin", "delta_beta": 100.0},
    "hardening": [1.0, 0.1],
    "stripes": {"method": "fourier-wavelet"},
}
KNOWN = {"energy_kev": 20.0, "distance_mm": 10.0, "pixel_size_um": 5.0}
