"""Groups of NeXus files by their class."""

from typing import TYPE_CHECKING, Any

from tomopipe.scans.datasets import attribute_of, text_of

if TYPE_CHECKING:
    import h5py

_MOST_GROUPS = 2000  # of one file: beyond that something is wrong


def groups_below(root: "h5py.Group", deepest: int) -> list["h5py.Group"]:
    """List the groups below a group, each once, without those that cannot be opened."""
    import h5py

    found: list[h5py.Group] = []
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
                    return found + below
        found += below
        layer = below
    return found


def open_child(group: "h5py.Group", name: str) -> Any:
    """Return what a group has of a name; None if it cannot be opened."""
    try:
        return group[name]
    except Exception:  # a dangling link, a damaged object: not what is looked for
        return None


def text_in(group: "h5py.Group", name: str) -> str:
    """Read a text; "" whatever goes wrong: nothing depends on it."""
    try:
        return text_of(group[name][()])
    except Exception:
        return ""


def _address(group: "h5py.Group") -> tuple[int, int]:
    import h5py

    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


def class_of(group: "h5py.Group") -> str:
    """Return the NeXus class of a group, "" if it has none."""
    return attribute_of(group, "NX_class")
