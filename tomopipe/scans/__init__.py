"""Readers of raw scans, one module per format; written frames, angles, flats and darks."""
