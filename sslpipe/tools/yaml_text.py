"""YAML that keeps its order, its style, and the comments that end its lines."""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

import sslpipe
from sslpipe.io.errors import UserError

WIDE = 10_000
"""Columns: no line is broken."""


def shipped(name: str) -> Path:
    """A file or folder that comes with sslpipe: in the installed package, or beside it in a checkout."""
    package = Path(sslpipe.__file__).parent
    installed = package / name
    return installed if installed.exists() else package.parent / name


def read_yaml(path: Path) -> CommentedMap:
    """The mapping in a file; UserError where there is none."""
    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}: expected a mapping of stages to settings")
    return tree


def dump(tree: CommentedMap) -> str:
    """The text of a mapping."""
    stream = StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def laid_out(tree: CommentedMap) -> str:
    """As `dump`, with an empty line before each block."""
    lines: list[str] = []
    above = ""
    for line in dump(tree).splitlines():
        if above and not line.startswith(" ") and (above.startswith(" ") or _opens_block(line)):
            lines.append("")
        lines.append(line)
        above = line
    return "\n".join([*lines, ""])


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def put(tree: CommentedMap, key: str, value: Any, comment: str | None = None) -> None:
    """Set the value at a dotted key, making blocks on the way; the comment takes the place of the line's own."""
    *parents, name = key.split(".")
    block = tree
    for parent in parents:
        if block.get(parent) is None:
            block[parent] = CommentedMap()
        block = block[parent]
    block[name] = value
    set_comment(block, name, comment)


def comment_at(block: CommentedMap, key: str) -> str | None:
    """The comment at the end of a key's line, without #; None where there is none."""
    tokens = block.ca.items.get(key)
    token = tokens[2] if tokens else None
    return token.value.partition("\n")[0].lstrip("# ") if token else None


def set_comment(block: CommentedMap, key: str, comment: str | None) -> None:
    """Let a key's line end in a comment, or in none."""
    block.ca.items.pop(key, None)
    if comment:
        block.ca.items[key] = [None, None, CommentToken(f"# {comment}\n", CommentMark(0), None), None]


def _opens_block(line: str) -> bool:
    """Whether the lines that follow belong to this one's key."""
    return line.partition(" #")[0].rstrip().endswith(":")


class _Representer(RoundTripRepresenter):
    """Writes null where there is none, not an empty place."""

    def represent_none(self, data: None) -> ScalarNode:
        """The plain word."""
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def _yaml() -> YAML:
    """A reader and writer that keeps order, style and comments."""
    yaml = YAML()
    yaml.width = WIDE
    yaml.Representer = _Representer
    return yaml
