"""Small DXchange files, valid or with one thing changed."""

import h5py
import numpy as np
import pytest

from tomopipe.config import InputBlock, PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import RawScan

N_ANGLES, N_ROWS, N_COLS = 7, 3, 5
DATA, FLATS, DARKS, THETA = (
    f"exchange/{name}" for name in ("data", "data_white", "data_dark", "theta")
)


def raw_values(n_angles=N_ANGLES, dtype="u2"):
    return np.arange(n_angles * N_ROWS * N_COLS).reshape(n_angles, N_ROWS, N_COLS).astype(dtype)


def write(path, change=None, *, dtype="u2", **options):
    """Write an undamaged scan, then change the open file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, data=raw_values(dtype=dtype), **options)
        file[FLATS] = np.stack([np.full((N_ROWS, N_COLS), v, "u2") for v in (1000, 1002, 1007)])
        file[DARKS] = np.stack([np.full((N_ROWS, N_COLS), v, "u2") for v in (10, 11)])
        file[THETA] = np.linspace(0, 180, N_ANGLES)
        if change:
            change(file)
    return path


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


def read_metadata(path, *, options=None, **references):
    texts = {
        kind: [*map(str, source)] if isinstance(source, list | tuple) else str(source)
        for kind, source in references.items()
    }
    return RawScan(path, InputBlock(**options or {}), PreprocessBlock(**texts)).metadata()


def reason_of(path, **options):
    with pytest.raises(ScanError) as caught:
        read_metadata(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def write_time_series(path, theta_deg, *, after=False):
    """Write, or go on with, a DXchange file whose projection n has the value n."""
    with h5py.File(path, "a") as file:
        for name in ("data_white_pre", "data_white_post") if after else ("data_white",):
            if f"exchange/{name}" not in file:
                file[f"exchange/{name}"] = np.full((2, 4, 5), 1000, "u2")
        file.require_dataset("exchange/data_dark", (1, 4, 5), "u2", data=np.zeros((1, 4, 5), "u2"))
        first = len(file["exchange/data"]) if "data" in file["exchange"] else 0
        numbers = first + np.arange(len(theta_deg))
        frames = numbers[:, None, None] + np.zeros((1, 4, 5), "u2")
        for name, values in (
            ("data", frames.astype("u2")),
            ("theta", theta_deg),
            ("monitor", numbers),
        ):
            shape = np.shape(values)
            data = file.require_dataset(
                f"exchange/{name}", (0, *shape[1:]), values.dtype,
                maxshape=(None, *shape[1:]), chunks=(1, *shape[1:]),
            ) if name not in file["exchange"] else file[f"exchange/{name}"]  # fmt: skip
            data.resize(first + len(values), axis=0)
            data[first:] = values
    return path
