"""Groups and datasets of HDF5 files: find them, check them, name them for people."""

import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import LibraryError, ScanError, some_of
from tomopipe.scans.angle_lists import BY_NAME, DIFFER, PER_DEGREE, is_angle, to_degrees
from tomopipe.scans.chunks import chunks_of, written_frames
from tomopipe.scans.hdf5 import UNREADABLE, fault_of, open_hdf5, source_path

if TYPE_CHECKING:
    import h5py

_LONGEST = 10_000_000  # along any axis; damaged files claim more than memory holds
_LEAST_DEG, _SAME_DEG = 30.0, 1e-3  # range of what may be angles; so far equal ones may differ
_OTHER_ANGLE = re.compile(r"tilt|roll|pitch|yaw|mono|bragg|2theta|two", re.IGNORECASE)
_LONGEST_TEXT = 100_000  # bytes of an attribute
MANY_AXES = (
    " (images, rows, columns). Set input.paths.data to another dataset of the file, or make one of "
    "a single threshold or module and name that (a virtual dataset copies nothing)"
)
NOT_RECOGNISED = (
    "expected a DXchange or NXtomo file, or input.paths to name its datasets (data, angles, and "
    "image_key or flats and darks)"
)
_MOST_GROUPS = 2000  # that are looked into for a dataset: beyond that something is wrong
_DEEPEST = 10  # groups below the root that are looked into
_N_NAMED = 12
_OTHER_ANGLES = "; input.angles gives others"
_ANEW = ": write the link anew"


@dataclass(frozen=True)
class Node:
    """A group with its path from the root of the file that was opened.

    Behind an external link `group.name` is the path in another file.
    """

    path: str
    group: "h5py.Group"

    @cached_property
    def nx_class(self) -> str:
        """The NeXus class of the group, "" if it has none."""
        return attribute_of(self.group, "NX_class")

    def below(self, name: str) -> str:
        """Return the path of what the group has of a name."""
        return f"{self.path.rstrip('/')}/{name}"


class Angles(NamedTuple):
    """Angles as a file has them."""

    theta_deg: NDArray[np.float64] | None = None
    location: str = ""
    warnings: tuple[str, ...] = ()  # what was assumed
    # which of the planned frames arrived, if some did not and it is known
    positions: NDArray[np.intp] | None = None


def find_dataset(file: "h5py.File", name: str) -> "h5py.Dataset | None":
    """Return a dataset of numbers that can be decoded, None if nothing is there, or raise."""
    import h5py

    try:
        result = file[name]
    except (KeyError, OSError, RuntimeError) as error:  # a circle of links
        link = why_closed(file, name)
        if link is None:
            return None
        raise fault_of(file, f"{name} {link}") from error
    if not isinstance(result, h5py.Dataset):
        raise fault_of(file, f"{name} is a group; expected a dataset")
    if result.shape is None or result.dtype.kind not in "uif":
        others = _OTHER_ANGLES * is_angle(name.rpartition("/")[2])
        what = "is empty" if result.shape is None else f"has type {result.dtype}"
        raise fault_of(file, f"{name} {what}; expected whole numbers or floats{others}")
    if max(result.shape, default=0) > _LONGEST:
        raise fault_of(file, f"{name} has shape {result.shape}; the file must be broken")
    _load_filters(result)
    is_whole = len(shown_axes(result.shape)) == result.ndim
    shown = result if is_whole else Squeezed(result)
    if shown.ndim == 3 and chunks_of(shown).in_parts:
        # without a cache of chunks HDF5 reads of one what is asked for
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_chunk_cache(0, 0, 1.0)
        del result, shown  # an open dataset keeps its cache
        result = h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
        shown = result if is_whole else Squeezed(result)
    return shown


class Squeezed:
    """A dataset of which three axes show, of images x 1 x rows x columns, for instance."""

    def __init__(self, stored: "h5py.Dataset") -> None:
        self.stored = stored
        self.axes = shown_axes(stored.shape)
        self.shape = tuple(stored.shape[axis] for axis in self.axes)
        self.ndim = len(self.axes)
        self.chunks = stored.chunks and tuple(stored.chunks[axis] for axis in self.axes)

    def __getattr__(self, name: str) -> Any:
        """Return what is the same of the dataset as stored."""
        return getattr(self.stored, name)

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.shape[0]

    def __getitem__(self, selection: Any) -> Any:
        """Read a part."""
        return self.stored[self._stored_selection(selection)]

    def read_direct(self, dest: NDArray, source_sel: Any) -> None:
        """Read a part into an array."""
        self.stored.read_direct(dest, self._stored_selection(source_sel))

    def _stored_selection(self, selection: Any) -> tuple[Any, ...]:
        """Return a selection with 0 for the axes that do not show."""
        parts = dict(zip(self.axes, selection, strict=False))
        every = [slice(None) if axis in self.axes else 0 for axis in range(self.stored.ndim)]
        return tuple(parts.get(axis, every[axis]) for axis in range(self.stored.ndim))


def shown_axes(shape: tuple[int, ...]) -> list[int]:
    """Choose the three axes that show if others have length 1; of these the first is last."""
    axes = list(range(len(shape)))
    for axis in (*axes[1:], 0):
        if len(axes) > 3 and shape[axis] == 1:
            axes.remove(axis)
    return axes if len(axes) == 3 else list(range(len(shape)))


def need_dataset(file: "h5py.File", name: str, hint: str = "") -> "h5py.Dataset":
    """Return a dataset as `find_dataset` does; a ScanError, with a hint, if there is none."""
    dataset = find_dataset(file, name)
    if dataset is None:
        raise fault_of(file, f"no {name}{hint}")
    return dataset


def check_stack(dataset: "h5py.Dataset", *, or_image: bool = False) -> None:
    """Raise a ScanError unless a dataset is a stack of frames, or one frame."""
    if not (dataset.ndim == 3 or (or_image and dataset.ndim == 2)) or 0 in dataset.shape:
        shape = f"{dataset.name} has shape {dataset.shape}; expected 3-D, not empty"
        raise fault_of(dataset, f"{shape}{MANY_AXES * (dataset.ndim > 3)}")


def degrees_of(dataset: "h5py.Dataset", unit: str) -> "Angles":
    """Read a list of angles, in the unit that the owner states, or auto."""
    theta_deg, warning = to_degrees(values_of(dataset), unit_of(dataset), unit)
    return Angles(theta_deg, dataset.name, (warning,) if warning else ())


def values_of(dataset: "h5py.Dataset") -> NDArray[Any]:
    """Read a list, NaN where it was never written; its axes of length 1 do not count."""
    if sum(n != 1 for n in dataset.shape) > 1:
        shape = f"{dataset.name} has shape {dataset.shape}"
        others = _OTHER_ANGLES * is_angle(dataset.name.rpartition("/")[2])
        raise fault_of(dataset, f"{shape}; expected one dimension{others}")
    # HDF5 crashes on virtual datasets in a circle, which this refuses
    written = written_frames(dataset).frames if dataset.ndim else np.ones(1, bool)
    values = np.asarray(dataset[()]).ravel()
    if written.all():
        return values
    return np.where(written if len(written) == len(values) else False, values, np.nan)


def value_in(group: "h5py.Group", name: str) -> Any:
    """Read an optional value; None on any error."""
    try:
        return group[name][()]
    except UNREADABLE:
        return None


def list_in(group: "h5py.Group", name: str) -> NDArray[Any] | None:
    """Read an optional list; None on any error, or with several dimensions."""
    values = np.asarray(value_in(group, name))
    return values.ravel() if values.size == max(values.shape, default=0) else None


def text_in(group: "h5py.Group", name: str) -> str:
    """Read an optional text; "" on any error."""
    value = value_in(group, name)
    return "" if value is None else text_of(value)


@contextmanager
def unless_configured(options: InputBlock) -> Iterator[None]:
    """Let angles of a file that cannot be used pass where the configuration has some."""
    try:
        yield
    except ScanError:
        if options.angles is None:
            raise


def find_angles(node: Node, lengths: Collection[int], unit: str) -> Angles:
    """Find angles over more than 30 degrees by name, unit and number; none if several differ."""
    import h5py

    result: dict[str, h5py.Dataset] = {}

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and _may_be_angles(name, thing, lengths):
            result[node.below(name)] = thing

    try:
        node.group.visititems(look)
    except UNREADABLE:  # a damaged group elsewhere must not cost the scan
        return Angles()
    values = {
        name: to_degrees(values_of(dataset), unit_of(dataset))[0]
        for name, dataset in result.items()
    }
    values = {name: theta for name, theta in values.items() if np.ptp(theta) > _LEAST_DEG}
    if not values:
        return Angles()
    first, *others = values
    if any(
        len(values[o]) != len(values[first]) or np.abs(values[o] - values[first]).max() > _SAME_DEG
        for o in others
    ):
        differ = f"{DIFFER}{some_of(list(values), 8)}, which differ: set input.angles to one"
        return Angles(warnings=(differ,))
    theta_deg, _, warnings, _ = degrees_of(result[first], unit)
    return Angles(theta_deg, first, (f"{BY_NAME}{first}, by its name and length", *warnings))


def _may_be_angles(name: str, dataset: "h5py.Dataset", lengths: Collection[int]) -> bool:
    n = max(dataset.shape, default=0) if dataset.shape is not None else 0
    if n not in lengths or dataset.size != n or dataset.dtype.kind not in "uif":
        return False
    unit = unit_of(dataset)
    is_rotation = is_angle(name.rpartition("/")[2]) and not _OTHER_ANGLE.search(name)
    return (
        unit in PER_DEGREE
        and (is_rotation or unit != "")
        and bool(np.isfinite(values_of(dataset)).all())
    )


def text_of(value: Any) -> str:
    """Return an HDF5 string, bytes or one of an array of them, as text; "" if there is none."""
    value = value.ravel()[0] if getattr(value, "size", 0) else value
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def attribute_of(group: "h5py.Group | h5py.Dataset", name: str) -> str:
    """Return an attribute as text; "" if there is none that can be read."""
    try:
        # a damaged one may claim any size
        if group.attrs.get_id(name).get_storage_size() > _LONGEST_TEXT:
            return ""
        return text_of(group.attrs[name])
    except UNREADABLE:  # a broken attribute must not cost a scan
        return ""


def unit_of(dataset: "h5py.Dataset") -> str:
    """Return the attribute `units` in lower case; "" if there is none that can be read."""
    return attribute_of(dataset, "units").lower()


def why_closed(group: "h5py.Group", name: str | bytes, deepest: int = 4) -> str | None:
    """Say why a name cannot be opened; None if it does not exist."""
    import h5py

    paths: list[Any] = [name]
    if isinstance(name, str):
        parts = name.strip("/").split("/")
        paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    closed = next((path for path in paths if _open_child(group, path) is None), paths[-1])
    try:
        link = group.get(closed, getlink=True)
    except (KeyError, OSError, RuntimeError):
        return None
    if isinstance(link, h5py.ExternalLink):
        fault = _why_not_there(source_path(link.filename, group.file.filename), link.path, deepest)
        return f"is a link to {link.filename}:{link.path}, which {fault}"
    if isinstance(link, h5py.SoftLink):
        return f"is a link to {link.path}, which cannot be opened{_ANEW}"
    return "is damaged; copy the file again" if link is not None else None


def _why_not_there(path: str, name: str, deepest: int) -> str:
    """Say why what a link leads to cannot be opened."""
    if not os.path.exists(path):
        return "is not there: copy that file there, or write the link anew"
    with suppress(ScanError):
        if deepest:
            with open_hdf5(path) as file:
                return why_closed(file, name, deepest - 1) or f"does not exist in that file{_ANEW}"
    return f"cannot be opened{_ANEW}"


def _load_filters(dataset: "h5py.Dataset") -> None:
    """Load the compression plugins if, and only if, the dataset needs one."""
    import h5py

    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    if all(h5py.h5z.filter_avail(code) for code, *_ in filters):
        return
    import hdf5plugin  # registers its filters

    for number, _, _, name in filters:
        if not h5py.h5z.filter_avail(number):
            what = f"HDF5 filter {number} ({name.decode(errors='replace')})"
            if number in hdf5plugin.FILTERS.values():
                raise LibraryError(
                    f"{socket.gethostname()}: {what} of hdf5plugin cannot be loaded. The scan is "
                    "not at fault: install hdf5plugin again on this machine, or leave it out."
                )
            raise fault_of(
                dataset,
                f"{dataset.name} is compressed with {what}, which is not installed: upgrade "
                "hdf5plugin, or write the file without it (h5repack -f GZIP=1)",
            )


def groups_below(root: Node, deepest: int, *, most: float = _MOST_GROUPS) -> list[Node]:
    """List the groups below a group, each once, without those that cannot be opened.

    Not more than `most`, and one.
    """
    import h5py

    results: list[Node] = []
    addresses = {_address(root.group)}
    layer = [root]
    for _ in range(deepest):
        below = []
        for node in layer:
            for name in node.group:
                child = None if _is_dataset(node.group, name) else _open_child(node.group, name)
                if isinstance(child, h5py.Group) and _address(child) not in addresses:
                    addresses.add(_address(child))
                    # bytes, if it is not UTF-8
                    below.append(Node(node.below(text_of(name)), child))
                if len(addresses) > most:
                    return results + below
        results += below
        layer = below
    return results


def _is_dataset(group: "h5py.Group", name: str | bytes) -> bool:
    """Tell whether a group has a dataset of a name, not behind a link, without opening it."""
    import h5py

    key = os.fsencode(name)
    if group.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return False
    with suppress(*UNREADABLE):  # h5o.get_info would go through all chunks of the dataset
        return bool(h5py.h5g.get_objinfo(group.id, key).type == h5py.h5g.DATASET)
    return False


def _open_child(group: "h5py.Group", name: str | bytes) -> Any:
    """Return what a group has of a name; None if it cannot be opened."""
    try:
        return group[name]
    except UNREADABLE:  # a dangling link, a damaged object: not what is looked for
        return None


def _address(group: "h5py.Group") -> tuple[int, int]:
    import h5py

    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


class DatasetEntry(NamedTuple):
    """A dataset: its path and shape."""

    name: str
    shape: tuple[int, ...]  # as it is read


def datasets_in(
    file: "h5py.File", is_shown: Callable[[str], bool] = lambda path: True
) -> list[DatasetEntry]:
    """List the datasets of numbers that are more than one, stacks of frames first, then by size.

    `is_shown` tells from its path whether a dataset is looked at.
    """
    import h5py

    entries = [
        DatasetEntry(
            path, tuple((child.shape or ())[axis] for axis in shown_axes(child.shape or ()))
        )
        for node, name in _names(file)
        if is_shown(path := node.below(text_of(name)))
        and isinstance(child := _open_child(node.group, name), h5py.Dataset)
        and child.dtype.kind in "uif"
    ]
    several = [entry for entry in entries if max(entry.shape, default=0) > 1]
    return sorted(several, key=lambda item: (-len(item.shape), [-n for n in item.shape], item.name))


def _names(file: "h5py.File") -> Iterator[tuple[Node, str | bytes]]:
    """Yield all names in a file: group, and name in it."""
    root = Node("/", file)
    for node in [root, *groups_below(root, _DEEPEST)]:
        for name in node.group:
            yield node, name


def brief_tree(file: "h5py.File") -> str:
    """Name the datasets of a file with their shapes, and broken links, as a part of a sentence."""
    names = [f"{dataset.name} {dataset.shape}" for dataset in datasets_in(file)]
    links = [
        f"{node.below(text_of(name))} {why_closed(node.group, name)}"
        for node, name in _names(file)
        if _open_child(node.group, name) is None
    ]
    return "; ".join([some_of(names, _N_NAMED) or "no dataset of numbers", *links[:_N_NAMED]])


def parts_hint(file: "h5py.File") -> str:
    """Return a hint for the end of an error: frames are in datasets of numbered names; or ""."""
    stacks = [entry for entry in datasets_in(file) if len(entry.shape) == 3]
    kinds = Counter((re.sub(r"\d+", "#", entry.name), entry.shape[1:]) for entry in stacks)
    ((kind, shape), n_datasets), *_ = kinds.most_common(1) or [(("", ()), 0)]
    return (
        f"; frames of {shape} are in {n_datasets} datasets {kind}: a virtual dataset of them in a "
        "file of its own (h5py.VirtualLayout), which input.paths.data names, is one scan"
    ) * (n_datasets > 1)
