"""Recipes: one whole params file for each published experiment, in the folder recipes/.

A recipe has the blocks that it runs and no others, and a block `recipe` that describes it. It has comments at its head
and at the ends of lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import Count, parse
from sslpipe.tools.yaml_text import comment_at, laid_out, read_yaml, set_comment, shipped

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
    """A recipe's content."""

    name: str
    card: Card
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
    return shipped("recipes")


def names() -> tuple[str, ...]:
    """All recipes, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def load(name: str) -> Recipe:
    """A recipe by name. Raises UserError for an unknown one, and where a file of it is not as it should be."""
    known = names()
    if name not in known:
        raise UserError(f"recipe: unknown name '{name}'{nearest(name, known)}; sslpipe recipe list shows all")
    return _load(name)


def cards() -> dict[str, Card]:
    """Name → what each recipe is."""
    return {name: _card(path := folder() / f"{name}.yaml", _read(path)[0]) for name in names()}


def text(name: str) -> str:
    """A recipe as the text of a params file, which says at its head what it is. Raises UserError as `load`."""
    return written(load(name))


def written(recipe: Recipe) -> str:
    """The text of `text`."""
    head = [f"{recipe.card.title}.", f"Aims at: {recipe.card.aims_at}.", f"Source: {recipe.card.source}."]
    head += [f"Recipe {recipe.name}."]
    lines = [f"# {line}".rstrip() for line in [*head, "", *recipe.head]]
    return "\n".join([*lines, "", laid_out(recipe.settings)])


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


def _load(name: str) -> Recipe:
    path = folder() / f"{name}.yaml"
    tree, head = _read(path)
    for key in tree:
        if key not in ("recipe", *BLOCKS):
            raise UserError(f"{path}: {key}: unknown key{nearest(str(key), ('recipe', *BLOCKS))}")
    card = _card(path, tree)
    tree.pop("recipe", None)
    return Recipe(name, card, head, _in_order(tree))


def _card(path: Path, tree: CommentedMap) -> Card:
    return parse(Card, tree.get("recipe", {}), where=f"{path}: recipe")


def _read(path: Path) -> tuple[CommentedMap, tuple[str, ...]]:
    """A file's content and the lines of the comment at its head; of other comments, those that end a line are kept."""
    tree = read_yaml(path)
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
        set_comment(block, key, comment)
        if isinstance(value, CommentedMap):
            _tidy(value)


def _in_order(settings: CommentedMap) -> CommentedMap:
    """The blocks in the order of the pipeline."""
    ordered = CommentedMap()
    for key in BLOCKS:
        if key in settings:
            ordered[key] = settings[key]
            set_comment(ordered, key, comment_at(settings, key))
    return ordered


def _leaves(block: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Dotted key and value of all that is no mapping, or an empty one."""
    found: list[tuple[str, Any]] = []
    for key, value in block.items():
        name = f"{above}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return found
