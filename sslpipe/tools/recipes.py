"""Recipes: one params file per published experiment, in the folder recipes/.

A recipe holds the blocks that it runs and no others. Under `recipe` it says what it is; `base` names a recipe that it
is laid over: a mapping over a mapping key by key, anything else in the other's place; null takes a block away. Its
comments are those at its head and those at the ends of lines, which go wherever their keys go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.compat import StringIO
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

import sslpipe
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import write_bytes
from sslpipe.io.settings import Count, parse

ABSENT = object()
"""In the place of a value where a key is not there."""
BLOCKS = (
    "seed",
    "protocol",
    "prepare",
    "network",
    "pretrain",
    "mine_neighbors",
    "cluster",
    "self_label",
    "semisup",
    "finetune",
    "evaluate",
)
"""What a recipe may hold, in the order in which it is written."""
OWN_KEYS = ("recipe", "base")
"""What is about the recipe, and does not come into params.yaml."""
WIDE = 10_000
"""Columns: no line is broken."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The key `recipe`: what it is, in a line each."""

    title: str
    aims_at: str
    """The published figure, and what it counts."""
    source: str
    """Paper and table."""
    images_at_most: Count | None = None
    """For images of one's own: what a training stage sees at most, so that many images make fewer epochs."""


@dataclass(frozen=True)
class Recipe:
    """A recipe, laid over its base."""

    name: str
    card: Card
    base: str | None
    head: tuple[str, ...]
    """The comment at the head of its own file, line by line, without #."""
    settings: CommentedMap
    """The content of params.yaml; `comment_at` gives the comments."""


@dataclass(frozen=True)
class Difference:
    """A key whose values differ; ABSENT on the side where it is not there."""

    key: str
    first: Any
    second: Any


def folder() -> Path:
    """Where recipes lie: in the installed package, or beside it in a checkout."""
    package = Path(sslpipe.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def names() -> tuple[str, ...]:
    """All recipes, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def load(name: str) -> Recipe:
    """A recipe by name. Raises UserError for an unknown one, and where a file of it is not as it should be."""
    known = names()
    if name not in known:
        raise UserError(f"recipe: unknown name '{name}'{nearest(name, known)}; sslpipe recipe list shows all")
    return _load(name, ())


def cards() -> dict[str, Card]:
    """Name → what each recipe is."""
    return {name: _card(path := folder() / f"{name}.yaml", _read(path)[0]) for name in names()}


def text(name: str) -> str:
    """A recipe as the text of a params file, which says at its head what it is. Raises UserError as `load`."""
    return written(load(name))


def written(recipe: Recipe) -> str:
    """The text of `text`."""
    head = [f"{recipe.card.title}.", f"Aims at: {recipe.card.aims_at}.", f"Source: {recipe.card.source}."]
    head += [f"Recipe {recipe.name}" + (f", laid over {recipe.base}, whose head says more." if recipe.base else ".")]
    lines = [*(f"# {line}".rstrip() for line in [*head, "", *recipe.head]), ""]
    above = ""
    for line in _dumped(recipe.settings).splitlines():
        if above and not line.startswith(" ") and (above.startswith(" ") or _opens_block(line)):
            lines.append("")
        lines.append(line)
        above = line
    return "\n".join(lines) + "\n"


def use(name: str, target: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write a recipe as `target`/params.yaml; returns what was written.

    Raises UserError where a params.yaml is there already, unless `force` says to write over it.
    """
    content, path = text(name), target / "params.yaml"
    if path.exists() and not force:
        raise UserError(f"{path}: is there already; --force writes over it, or name another folder")
    write_bytes(path, content.encode())
    return (path,)


def differences(first: str, second: str) -> list[Difference]:
    """Dotted keys at which the params files of two recipes differ, in the order of the first, then of the second."""
    values = [dict(_leaves(load(name).settings)) for name in (first, second)]
    pairs = {key: tuple(side.get(key, ABSENT) for side in values) for key in [*values[0], *values[1]]}
    return [Difference(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1]]


def as_text(value: Any) -> str:
    """A setting as params.yaml would hold it; - for ABSENT."""
    if value is ABSENT:
        return "-"
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def comment_at(block: CommentedMap, key: str) -> str | None:
    """The comment at the end of a key's line, without #; None where there is none."""
    tokens = block.ca.items.get(key)
    token = tokens[2] if tokens else None
    return token.value.partition("\n")[0].lstrip("# ") if token else None


def _load(name: str, above: tuple[str, ...]) -> Recipe:
    """As `load`; above: the recipes that are laid over this one."""
    path = folder() / f"{name}.yaml"
    tree, head = _read(path)
    card = _card(path, tree)
    base = tree.get("base")
    for key in tree:
        if key not in (*OWN_KEYS, *BLOCKS):
            raise UserError(f"{path}: {key}: unknown key{nearest(str(key), (*OWN_KEYS, *BLOCKS))}")
    if base is not None and base not in names():
        raise UserError(f"{path}: base: unknown recipe '{base}'{nearest(str(base), names())}")
    if base in (*above, name):
        raise UserError(f"{path}: base: '{base}' found, which is itself laid over {name}; expected no circle")
    for key in OWN_KEYS:
        tree.pop(key, None)
    settings = _load(base, (*above, name)).settings if base else CommentedMap()
    _lay_over(settings, tree)
    return Recipe(name, card, base, head, _in_order(settings))


def _card(path: Path, tree: CommentedMap) -> Card:
    return parse(Card, tree.get("recipe", {}), where=f"{path}: recipe")


def _read(path: Path) -> tuple[CommentedMap, tuple[str, ...]]:
    """A file's content and the lines of the comment at its head; of other comments, those that end a line are kept."""
    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}: expected a mapping of stages to settings")
    head = tree.ca.comment[1] if tree.ca.comment and tree.ca.comment[1] else []
    lines = tuple(line.removeprefix("#").strip() for token in head for line in token.value.strip().splitlines())
    _tidy(tree)
    return tree, lines


def _tidy(block: CommentedMap) -> None:
    """Keep the comments that end a line, each a space behind its value, and no others."""
    block.ca.comment = None
    for key, value in block.items():
        comment = comment_at(block, key)
        block.ca.items.pop(key, None)
        if hasattr(value, "ca"):
            value.ca.comment = None
        _set_comment(block, key, comment)
        if isinstance(value, CommentedMap):
            _tidy(value)


def _set_comment(block: CommentedMap, key: str, comment: str | None) -> None:
    block.ca.items.pop(key, None)
    if comment:
        block.ca.items[key] = [None, None, CommentToken(f"# {comment}\n", CommentMark(0), None), None]


def _lay_over(under: CommentedMap, over: CommentedMap) -> None:
    """Lay a recipe's blocks over its base's, in place. A key that is replaced loses the comment that it had."""
    for key, value in over.items():
        before, comment = under.get(key), comment_at(over, key)
        if value is None and isinstance(before, CommentedMap):
            _set_comment(under, key, None)
            del under[key]
            continue
        if isinstance(value, CommentedMap) and isinstance(before, CommentedMap):
            _lay_over(before, value)
            # What ends a block's first line holds for all of it, what ends a mapping on one line for its values.
            if before.fa.flow_style() is not True:
                comment = comment or comment_at(under, key)
        else:
            under[key] = value
        _set_comment(under, key, comment)


def _in_order(settings: CommentedMap) -> CommentedMap:
    """The blocks in the order of the pipeline."""
    ordered = CommentedMap()
    for key in BLOCKS:
        if key in settings:
            ordered[key] = settings[key]
            _set_comment(ordered, key, comment_at(settings, key))
    return ordered


def _leaves(block: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Dotted key and value of all that is no mapping, or an empty one."""
    found: list[tuple[str, Any]] = []
    for key, value in block.items():
        name = f"{above}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return found


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


def _dumped(settings: CommentedMap) -> str:
    stream = StringIO()
    _yaml().dump(settings, stream)
    return str(stream.getvalue())
