"""Finders of the centre of rotation (COR): one module per kind of evidence."""
