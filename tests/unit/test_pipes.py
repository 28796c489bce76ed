"""Files that others may have put in place are opened through `no_pipe` alone."""

import ast
import os
import socket
from pathlib import Path

import h5py
import pytest

import tomopipe
from tests.phantoms import write_scan
from tests.pipes import pipe_at
from tomopipe.errors import PipeInPlaceError, is_of_the_system
from tomopipe.paths import no_pipe
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.inventory import _look, _sources
from tomopipe.storage.json_files import json_or

PACKAGE = Path(tomopipe.__file__).parent
READERS = {
    *("open", "read_text", "read_bytes", "File", "TiffFile", "imread", "memmap", "fromfile"),
    *("FileHandler", "open_group", "open_array"),
}
# what opens nothing that others may have put there: its own new files, the package's, checked ones
OWN = {
    "campaign/files.py": {"path.read_bytes()"},  # a file, as is looked at before
    "review/app.py": {"path.read_bytes()"},
    "cli/__init__.py": {"open(os.devnull, 'r+', encoding='utf-8')"},
    "steps/predict_cor.py": {"path.open('rb')"},
    "scans/hdf5.py": {
        "open(path, 'rb')",
        "h5py.File(path, 'r', **options)",
        "h5py.File(path, 'r', locking=False, **options)",
        "h5py.File(path, 'r', swmr=True, **options)",
    },
    "scans/pixels.py": {"open(self._dataset.file.filename, 'rb', buffering=0)"},
    "volumes/volume_zarr.py": {
        "zarr.open_group(_no_pipes(path), mode='r')",
        "zarr.open_array(files, path=level['path'], mode='r')",  # of `_no_pipes`
    },
    "report/fragments.py": {"source.read_bytes()"},  # of the package
    "relion/mrc.py": {
        "mrcfile.open(self.path, header_only=True)",
        "np.fromfile(stream, '<f4', n_rows * n_cols)",
    },
    "storage/atomic.py": {"open(path, 'rb')"},
    "storage/run_folder.py": {"path.read_text('utf-8')"},
}
# writers, in temporary places or made exclusively; and what is no file
NOT_READ = ("'w'", "'wb'", "'x'", "'r+b'", "'ab'", "O_WRONLY", "O_CREAT", "flags")
IN_PACKAGE = ("__file__", "/proc/", "workflow_folder()", "resources.files", "webbrowser.")
NOT_FILES = (
    *("raw.open()", "self.open()", "RawScan(", "replace(raw", "urlopen"),
    *("h5py.h5d.open", "h5py.h5g.open"),
)


def calls_of(path: Path) -> list[str]:
    """Return the calls of a module that open a file to read it."""
    calls = [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
    names = [
        each.func.attr if isinstance(each.func, ast.Attribute) else getattr(each.func, "id", "")
        for each in calls
    ]
    return [ast.unparse(call) for call, name in zip(calls, names, strict=True) if name in READERS]


def test_every_file_is_opened_through_no_pipe():
    unguarded = [
        f"{name}: {call}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (name := str(path.relative_to(PACKAGE))).startswith("simulate/")
        for call in calls_of(path)
        if "no_pipe(" not in call and call not in OWN.get(name, ())
        if not any(part in call for part in (*NOT_READ, *IN_PACKAGE, *NOT_FILES))
    ]
    assert unguarded == []


def test_a_pipe_a_socket_and_a_device_are_named_and_a_file_passes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
    names = {"pipe": "pipe", "link": "pipe", "s": "socket", "/dev/zero": "device"}
    for name, kind in names.items():
        with pytest.raises(PipeInPlaceError) as caught:
            no_pipe(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: is a {kind}, not a file: remove it"
        assert not is_of_the_system(caught.value)  # nothing mends it but a person
    (tmp_path / "file").touch()
    for name in ("file", "nothing", "."):
        assert no_pipe(tmp_path / name) == tmp_path / name
    assert json_or(tmp_path / "pipe", {}) == {}


@pytest.mark.parametrize("kind", ["external link", "virtual", "external storage"])
def test_what_a_raw_file_takes_from_a_pipe_is_named_and_not_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path / "a.h5", n_rows=1, n_cols=64, n_angles=31)
    with h5py.File("a.h5", "r+") as file:
        data = file["exchange/data"]
        shape, dtype = data.shape, data.dtype
        del file["exchange/data"]
        if kind == "external link":
            file["exchange/data"] = h5py.ExternalLink("other.h5", "data")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource("other.h5", "data", shape)
            file.create_virtual_dataset("exchange/data", layout)
        else:
            file.create_dataset("exchange/data", shape, dtype, external=[("other.h5", 0, 2**30)])
    Path("other.h5").touch()
    opened = tmp_path / "opened"
    with pipe_at(tmp_path / "other.h5", opened):
        reason = _look(RawScan(Path("a.h5")), _sources).reason
    assert reason == "other.h5: is a pipe, not a file: remove it"
    assert not opened.exists()
