"""Centre of rotation (COR): `Prepared` rows of a scan, the `Curves` of their evidence, and what the
methods make of them.
"""
