"""YAML that keeps its order, its style and its comments."""

from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from sslpipe.io.errors import UserError
from sslpipe.tools.recipes import _dumped, _set_comment, _yaml


def read_yaml(path: Path) -> CommentedMap:
    """The mapping in a file; UserError where there is none."""
    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}: expected a mapping")
    return tree


def dump(tree: CommentedMap) -> str:
    """The text of a mapping."""
    return _dumped(tree)


def put(tree: CommentedMap, key: str, value: Any, comment: str = "") -> None:
    """Set the value at a dotted key, making blocks on the way; the comment takes the place of the line's own."""
    *parents, name = key.split(".")
    block = tree
    for parent in parents:
        if block.get(parent) is None:
            block[parent] = CommentedMap()
        block = block[parent]
    block[name] = value
    _set_comment(block, name, comment)


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
