"""Writing and reading volumes: HDF5, TIFF, OME-Zarr, and the encoding of their values."""
