"""Recipes: one params file per published experiment, in the folder recipes/.

A recipe holds the blocks that it runs and no others. Under `recipe` it says what it is; `base` names a recipe that it
is laid over: a mapping over a mapping key by key, anything else in the other's place; null takes a block away. Its
comments are those at its head and those at the ends of lines, which go wherever their keys go.
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
OWN_KEYS = ("recipe", "base")
"""What is about the recipe, and does not come into params.yaml."""


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
    return shipped("recipes")


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


def _lay_over(under: CommentedMap, over: CommentedMap) -> None:
    """Lay a recipe's blocks over its base's, in place. A key that is replaced loses the comment that it had."""
    for key, value in over.items():
        before, comment = under.get(key), comment_at(over, key)
        if value is None and isinstance(before, CommentedMap):
            set_comment(under, key, None)
            del under[key]
            continue
        if isinstance(value, CommentedMap) and isinstance(before, CommentedMap):
            _lay_over(before, value)
            # What ends a block's first line holds for all of it, what ends a mapping on one line for its values.
            if before.fa.flow_style() is not True:
                comment = comment or comment_at(under, key)
        else:
            under[key] = value
        set_comment(under, key, comment)


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
