"""Volumes and pictures out: HDF5, TIFF, OME-Zarr, and how their values are stored."""
