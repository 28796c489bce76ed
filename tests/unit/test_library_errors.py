"""A library that a machine cannot load is never the fault of a scan."""

import builtins
import ctypes

import h5py
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.log import job
from tomopipe.campaign.state.facts import LOOK_AGAIN
from tomopipe.config import PreprocessBlock
from tomopipe.config.cor_blocks import TryReconBlock
from tomopipe.errors import (
    LibraryError,
    ScanError,
    TomopipeError,
    is_of_the_scan,
    library_error,
)
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.inventory import _look, _sources
from tomopipe.steps.try_recon import TryFiles, try_recon
from tomopipe.storage.json_files import json_or


def unloaded() -> OSError:
    """Return the error of ctypes for a library that is not there."""
    with pytest.raises(OSError, match="shared object") as caught:
        ctypes.CDLL("liblacking.so.7")
    return caught.value


@pytest.fixture
def compressed(tmp_path):
    """A scan whose pixels need a filter of hdf5plugin."""
    import hdf5plugin

    path = tmp_path / "a.h5"
    write_scan(path, n_rows=2, n_cols=64, n_angles=31)
    with h5py.File(path, "r+") as file:
        data = file["exchange/data"][()]
        del file["exchange/data"]
        file.create_dataset("exchange/data", data=data, **hdf5plugin.Zstd())
    return path


@pytest.mark.parametrize(
    ("error", "is_library"),
    [
        (unloaded(), True),
        (OSError("Could not find/load shared object file 'libllvmlite.so'"), True),
        (ModuleNotFoundError("No module named 'numba'"), True),
        (ImportError("libtbb.so.12: undefined symbol: x"), True),
        (OSError("Unable to synchronously open file (truncated file)"), False),
        (FileNotFoundError(2, "No such file or directory", "a.so"), False),
        (ScanError("a.h5: broken file"), False),
        (TomopipeError("install tomopipe[torch]"), False),
    ],
)
def test_which_errors_are_of_a_library(error, is_library):
    assert (library_error(error) is not None) == is_library
    wrapped = RuntimeError("while it was read")
    wrapped.__cause__ = error
    assert (library_error(wrapped) is not None) == is_library
    if is_library:
        assert not is_of_the_scan(error)


def test_an_error_that_was_worded_for_users_is_no_fault_of_the_machine():
    worded = TomopipeError("pip install 'tomopipe[torch]'")
    worded.__cause__ = ModuleNotFoundError("No module named 'torch'")
    assert library_error(worded) is None


def test_filters_that_a_machine_cannot_load_do_not_break_the_scan(
    tmp_path, compressed, monkeypatch
):
    raw = RawScan(compressed)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(LibraryError, match=r"cannot be loaded\. The scan is not at fault"):
        raw.metadata()
    assert _look(raw, _sources).reason.endswith(f"or leave it out{LOOK_AGAIN}")
    files = TryFiles(*(str(tmp_path / name) for name in ("try.tif", "try.json", "rows.h5")))
    with pytest.raises(LibraryError):  # a job that fails, and no result about the scan
        try_recon(raw, files, TryReconBlock(), resources=Resources(), made_from=None)
    assert not (tmp_path / "try.json").exists()


def test_an_import_that_fails_does_not_break_the_scan(compressed, monkeypatch):
    load = builtins.__import__

    def lacking(name, *more):
        if name == "hdf5plugin":
            raise ImportError("libzstd.so.1: cannot open shared object file")
        return load(name, *more)

    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(LibraryError, match="libzstd"):
        RawScan(compressed, preprocess=PreprocessBlock()).metadata()


def test_a_job_says_that_it_is_of_the_machine(tmp_path):
    log = tmp_path / "logs" / "full_recon" / "a.log"
    with pytest.raises(ImportError), job(log):
        raise ImportError("libtbb.so.12: cannot open shared object file")
    status = json_or(tmp_path / "logs" / "status" / "full_recon" / "a.json", {})
    assert (status["of_machine"], status["may_pass"]) == (True, True)
    assert "a library cannot be loaded (ImportError: libtbb.so.12" in status["error"]
