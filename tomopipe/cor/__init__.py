"""Centre of rotation (COR): `Prepared` rows of a scan, `Curves` of evidence, and the methods."""
