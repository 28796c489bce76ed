"""Measurements of this package against others: `tomopipe lab bench`.

Other packages are optional: what is not installed is listed as such.
"""
