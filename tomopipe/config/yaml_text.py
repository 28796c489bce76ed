"""Read untrusted YAML: what cannot be a configuration is refused before it is constructed."""

from typing import Any

import yaml
from yaml import Node

from tomopipe.errors import TomopipeError

# A campaign of 5000 scans that names each of them has some 20,000 values; blocks, lists and
# mappings in them are nested six deep.
_MOST_VALUES = 200_000
_DEEPEST = 30
_LONGEST_NUMBER = 18  # digits


def load_yaml(text: str, source: str) -> Any:
    """Return the content of a YAML text, one document with plain tags; `source` is named in errors.

    Refused are keys that occur twice in a mapping, values nested too deep or repeated by
    aliases too often, and numbers that are too long.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Walk(source).size(node)
        return loader.construct_document(node)
    except RecursionError:
        raise TomopipeError(_too_deep(source)) from None
    # from invalid dates and numbers
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise TomopipeError(f"{source}: cannot be read as YAML: {_of(error)}") from None
    finally:
        loader.dispose()


def _too_deep(source: str) -> str:
    return (
        f"{source}: values are nested more than {_DEEPEST} deep, which no configuration is. "
        "Write it with blocks of keys such as campaign:"
    )


def _of(error: Exception) -> str:
    """Say what is wrong with a text, and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    what = ": ".join(filter(None, (context, problem)))
    return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join(what.split())}"


class _Walk:
    """A pass over the nodes of a document, each once, before values are constructed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def size(self, node: Node) -> tuple[int, int]:
        """Return the number of values of a node, aliases resolved, and their depth."""
        if id(node) in self._open:
            raise TomopipeError(f"{self._source}: line {_line(node)}: a value that contains itself")
        if id(node) not in self._seen:
            self._open.add(id(node))
            below = [self.size(child) for child in self._parts(node)]
            self._open.remove(id(node))
            n = 1 + sum(n for n, _ in below)
            depth = 1 + max((depth for _, depth in below), default=0)
            if n > _MOST_VALUES:
                raise TomopipeError(
                    f"{self._source}: line {_line(node)}: more than {_MOST_VALUES} values, "
                    "aliases resolved, which no configuration has"
                )
            if depth > _DEEPEST:
                raise TomopipeError(_too_deep(self._source))
            self._seen[id(node)] = n, depth
        return self._seen[id(node)]

    def _parts(self, node: Node) -> list[Node]:
        """Return the nodes below a node; raise for repeated keys and for long numbers."""
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            return [part for pair in node.value for part in pair]
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if node.tag.endswith(":int") and len(node.value) > _LONGEST_NUMBER:
            raise TomopipeError(
                f"{self._source}: line {_line(node)}: a number of {len(node.value)} digits; "
                f"expected {_LONGEST_NUMBER} at most. If it is a name, put it in quotes."
            )
        return []

    def _check_keys(self, node: Node) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name = key.tag, str(key.value)
            if name in lines:
                raise TomopipeError(
                    f"{self._source}: {key.value} stands in line {lines[name]} and again in line "
                    f"{_line(key)}, and one of them would not count. Keep one."
                )
            lines[name] = _line(key)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
