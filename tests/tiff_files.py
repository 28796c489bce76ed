"""Reads the TIFF files that tomopipe writes."""

import re

import numpy as np
import tifffile

_LABEL = re.compile(r"COR (-?\d+(?:\.\d+)?)")


def read_try_stack(path):
    """Return the pages, (n_cor, n_y, n_x), and their CORs; NaN for a label without one."""
    with tifffile.TiffFile(path) as file:
        labels = file.imagej_metadata["Labels"]
        images = file.asarray()
    texts = [labels] if isinstance(labels, str) else labels
    found = [_LABEL.fullmatch(text) for text in texts]
    cor_px = np.array([float(match[1]) if match else np.nan for match in found])
    return images.reshape(len(texts), *images.shape[-2:]), cor_px


def read_slices(paths):
    """Return slices as one array, (n_slices, n_y, n_x)."""
    return np.stack([tifffile.imread(path) for path in paths])
