"""Raw scans in: one module per format, what was really written, angles, flats and darks."""
