"""Groups of HDF5 files, by their NeXus class; datasets, for people who must name some of them."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tomopipe.errors import some_of
from tomopipe.groups import grouped
from tomopipe.scans.datasets import attribute_of, kept_axes, text_of, why_closed
from tomopipe.scans.hdf5 import UNREADABLE

if TYPE_CHECKING:
    import h5py

_MOST_GROUPS = 2000  # of one file: beyond that something is wrong
_DEEPEST = 10  # groups below the root that are looked into
_N_NAMED = 6
_MANY = 4  # datasets that differ in the numbers of their names alone


def groups_below(root: "h5py.Group", deepest: int) -> list["h5py.Group"]:
    """List the groups below a group, each once, without those that cannot be opened."""
    import h5py

    results: list[h5py.Group] = []
    addresses = {_address(root)}
    layer = [root]
    for _ in range(deepest):
        below = []
        for group in layer:
            for name in group:
                child = open_child(group, name)
                if isinstance(child, h5py.Group) and _address(child) not in addresses:
                    addresses.add(_address(child))
                    below.append(child)
                if len(addresses) > _MOST_GROUPS:
                    return results + below
        results += below
        layer = below
    return results


def open_child(group: "h5py.Group", name: str) -> Any:
    """Return what a group has of a name; None if it cannot be opened."""
    try:
        return group[name]
    except UNREADABLE:  # a dangling link, a damaged object: not what is looked for
        return None


def text_in(group: "h5py.Group", name: str) -> str:
    """Read a text; "" whatever goes wrong: nothing depends on it."""
    try:
        return text_of(group[name][()])
    except UNREADABLE:
        return ""


def _address(group: "h5py.Group") -> tuple[int, int]:
    import h5py

    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


def class_of(group: "h5py.Group") -> str:
    """Return the NeXus class of a group, "" if it has none."""
    return attribute_of(group, "NX_class")


class DatasetEntry(NamedTuple):
    """A dataset: its path, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_alike: int = 0  # others, not listed, of the same shape, whose names differ in numbers alone


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def datasets_in(file: "h5py.File") -> list[DatasetEntry]:
    """List the datasets of numbers that are more than one, stacks of frames first, then by size."""
    import h5py

    names = [
        DatasetEntry(name, _shape_of(child), str(child.dtype))
        for _, name, child in _children(file)
        if isinstance(child, h5py.Dataset) and child.dtype.kind in "uif"
    ]
    several = [item for item in names if max(item.shape, default=0) > 1]
    return sorted(several, key=lambda item: (-len(item.shape), [-n for n in item.shape], item.name))


def _shape_of(dataset: "h5py.Dataset") -> tuple[int, ...]:
    """Return the shape of a dataset as it is read."""
    shape = dataset.shape or ()
    return tuple(shape[axis] for axis in kept_axes(shape))


def without_alike(result: Iterable[DatasetEntry]) -> list[DatasetEntry]:
    """Return of many datasets that are alike only the first."""
    groups = grouped(
        ((_without_numbers(dataset.name), dataset.shape, dataset.dtype), dataset)
        for dataset in result
    )
    listed = []
    for first, *others in groups.values():
        many = len(others) >= _MANY
        listed += [first._replace(n_alike=len(others))] if many else [first, *others]
    return listed


def broken_links(file: "h5py.File") -> list[str]:
    """Say which names of a file lead to others that cannot be opened."""
    return [
        f"{name} {why_closed(group.file, name)}"
        for group, name, child in _children(file)
        if child is None
    ]


def _children(file: "h5py.File") -> Iterator[tuple["h5py.Group", str, Any]]:
    """Yield all in a file: its group, its path, and what it is; None if it cannot be opened."""
    for group in [file, *groups_below(file, _DEEPEST)]:
        folder = text_of(group.name).rstrip("/")  # bytes, if it is not UTF-8
        for name in group:
            yield group, f"{folder}/{name}", open_child(group, name)


def brief_tree(file: "h5py.File") -> str:
    """Name the datasets of a file with their shapes, and broken links, as a part of a sentence."""
    names = [
        f"{dataset.name} {dataset.shape}" + f" and {dataset.n_alike} alike" * (dataset.n_alike > 0)
        for dataset in without_alike(datasets_in(file))
    ]
    parts = [some_of(names, _N_NAMED) or "no dataset of numbers", *broken_links(file)[:_N_NAMED]]
    return "; ".join(parts)
