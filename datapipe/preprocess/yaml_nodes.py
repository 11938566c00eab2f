"""YAML as plain values that remember their lines, and nothing else of YAML.

What enters: text that nobody vouches for. What leaves: a tree of `Node`s (mappings, lists and plain scalars), each with
its line. Invariant: no tag is obeyed, no alias expanded, nothing is constructed but str, int, float, bool and None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from datapipe.errors import RecipeError

MAX_BYTES: Final = 1 << 20
"""A recipe is a page; a "recipe" beyond this is another kind of file."""
_MAX_DEPTH: Final = 32
_SCALARS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_MAPPING: Final = "tag:yaml.org,2002:map"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"


@dataclass(frozen=True)
class Node:
    """A value and the line it begins on (from 1). `value` is a scalar, a list of nodes, or a dict of str → Node."""

    value: Any
    line: int

    def plain(self) -> Any:
        """The value without its lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def parse_yaml(text: str, *, where: str) -> Node:
    """The document as nodes.

    Args:
        where: the file's name, for messages.

    Raises:
        RecipeError: not YAML, empty, a tag, an alias, a key that is no text or is given twice, or too deep or long.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise RecipeError(f"{where}: {len(text):,} characters", expected=f"at most {MAX_BYTES:,}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{where}{line}: not YAML: {problem}", fix="check indentation, colons and quotes") from None
    except RecursionError:
        raise RecipeError(f"{where}: nested too deeply", expected=f"at most {_MAX_DEPTH} levels") from None
    if root is None:
        raise RecipeError(f"{where}: it is empty", expected="a mapping with `steps:`")
    return _node(root, where, set(), 0)


def parse_value(text: str) -> Any:
    """One value as a recipe would hold it: `0.5` a number, `true` a bool, `[a, b]` a list, else text."""
    if not text.strip():
        return ""
    return parse_yaml(text, where=f"value {text!r}").plain()


def _node(node: Any, where: str, seen: set[int], depth: int) -> Node:
    import yaml

    line = node.start_mark.line + 1
    if id(node) in seen:
        raise RecipeError(f"{where}:{line}: an alias (*name)", fix="write the value out where it is used")
    seen.add(id(node))
    if depth > _MAX_DEPTH:
        raise RecipeError(f"{where}:{line}: nested too deeply", expected=f"at most {_MAX_DEPTH} levels")
    if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = _node(key, where, seen, depth + 1)
            if not isinstance(name.value, str):
                raise RecipeError(f"{where}:{name.line}: the key {name.plain()!r}", expected="a name")
            if name.value in found:
                raise RecipeError(f"{where}:{name.line}: {name.value!r} is given twice", fix="remove one of them")
            found[name.value] = _node(value, where, seen, depth + 1)
        return Node(found, line)
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
        return Node([_node(each, where, seen, depth + 1) for each in node.value], line)
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        try:
            return Node(yaml.constructor.SafeConstructor().construct_object(node), line)
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"{where}:{line}: {node.value!r} ({error})", expected="a plain value") from None
    raise RecipeError(
        f"{where}:{line}: {node.tag.removeprefix('tag:yaml.org,2002:')!r} is not allowed here",
        expected="mappings, lists, texts, numbers, true, false and null",
        fix="remove the tag, or put the value in quotes",
    )
