"""Read and write YAML files, with their order, their style and the comments at the ends of lines."""

from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

import sslpipe
from sslpipe.io.errors import UserError

WIDE = 10_000
"""Line width at which no line is wrapped."""


def shipped(name: str) -> Path:
    """Return the path of a file or folder of sslpipe, in the installed package or beside it in a checkout."""
    package = Path(sslpipe.__file__).parent
    installed = package / name
    return installed if installed.exists() else package.parent / name


def read_yaml(path: Path) -> CommentedMap:
    """Return the mapping in a file; raises UserError if the file cannot be read or contains something else."""
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
    """Return the YAML text of a mapping."""
    stream = StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def laid_out(tree: CommentedMap) -> str:
    """Return the YAML text of a mapping, with an empty line before each block that has none."""
    lines: list[str] = []
    above = ""
    for line in dump(tree).splitlines():
        if above and line and not line.startswith(" ") and (above.startswith(" ") or _opens_block(line)):
            lines.append("")
        lines.append(line)
        above = line
    return "\n".join([*lines, ""])


def at(tree: Any, key: str) -> Any:
    """Return the value at a dotted key, None if there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested mapping as one mapping of dotted keys, which begin with `above`; an empty mapping is a value."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{above}{key}.")
        else:
            leaves[f"{above}{key}"] = value
    return leaves


def in_one_line(values: Iterable[Any]) -> CommentedSeq:
    """Return a list that is written in one line, such as [0, 255]."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence


def put(tree: CommentedMap, key: str, value: Any, comment: str | None = None) -> None:
    """Set the value at a dotted key and create missing blocks; `comment` replaces the comment of the line."""
    *parents, name = key.split(".")
    block = tree
    for parent in parents:
        if block.get(parent) is None:
            block[parent] = CommentedMap()
        block = block[parent]
    if not block:  # an empty mapping is read as {}, in which a comment would end the line
        block.fa.set_block_style()
    block[name] = value
    set_comment(block, name, comment)


def comment_at(block: CommentedMap, key: str) -> str | None:
    """Return the comment at the end of a key's line, without #, None if there is none."""
    tokens = block.ca.items.get(key)
    token = tokens[2] if tokens else None
    return token.value.partition("\n")[0].lstrip("# ") if token else None


def set_comment(block: CommentedMap, key: str, comment: str | None) -> None:
    """Set or, with None, remove the comment at the end of a key's line."""
    block.ca.items.pop(key, None)
    if comment:
        block.ca.items[key] = [None, None, CommentToken(f"# {comment}\n", CommentMark(0), None), None]


def _opens_block(line: str) -> bool:
    """Return whether a line is a key with a block below it."""
    return line.partition(" #")[0].rstrip().endswith(":")


class _Representer(RoundTripRepresenter):
    """A representer that writes None as null instead of an empty value."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def _yaml() -> YAML:
    """Return a reader and writer that keeps order, style and comments."""
    yaml = YAML()
    yaml.width = WIDE
    yaml.Representer = _Representer
    return yaml
