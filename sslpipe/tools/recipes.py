"""Recipes: one complete params file for each published experiment, in the folder recipes/.

A recipe has the blocks of the stages that it runs, and a block `recipe` that describes it. It has comments at its head
and at the ends of lines.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import Count, parse
from sslpipe.io.stages import STAGES, key_of
from sslpipe.tools.yaml_text import comment_at, flat, laid_out, put, read_yaml, set_comment, shipped

ABSENT = object()
"""Stands for the value of a missing key."""
BLOCKS = ("seed", "protocol", "prepare", "network", *map(key_of, STAGES[1:]))
"""Blocks of a recipe, in the order in which they are written."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The block `recipe`, which describes a recipe."""

    title: str
    """The experiment in one line."""
    aims_at: str
    """The published result, and its metric."""
    source: str
    """Paper and table."""
    images_at_most: Count | None = None
    """Maximum number of images that a stage sends through the network, counted anew in every epoch; limits the epochs
    for your own images. Epochs of heads alone, on stored features, do not count, and are shortened in proportion."""


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe."""

    name: str
    card: Card
    """The description of the recipe."""
    head: tuple[str, ...]
    """Lines of the comment at the head of its file, without #."""
    settings: CommentedMap
    """The content of params.yaml; `comment_at` returns the comments."""


def folder() -> Path:
    """Return the folder of the recipes, in the installed package or beside it in a checkout."""
    return shipped("recipes")


def names() -> tuple[str, ...]:
    """Return the names of all recipes, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def load(name: str) -> Recipe:
    """Return a recipe by name; raises UserError for an unknown name and for a file with unknown keys."""
    known = names()
    if name not in known:
        raise UserError(f"recipe: unknown name '{name}'{nearest(name, known)}; sslpipe recipe list shows all")
    path = folder() / f"{name}.yaml"
    tree, head = _read(path)
    for key in tree:
        if key not in ("recipe", *BLOCKS):
            raise UserError(f"{path}: {key}: unknown key{nearest(str(key), ('recipe', *BLOCKS))}")
    card = parse(Card, tree.get("recipe", {}), where=f"{path}: recipe")
    settings = CommentedMap()
    for key in BLOCKS:
        if key in tree:
            put(settings, key, tree[key], comment_at(tree, key))
    return Recipe(name, card, head, settings)


def text(name: str) -> str:
    """Return a recipe as the text of a params file with its description at the head; raises UserError as `load`."""
    return written(load(name))


def written(recipe: Recipe) -> str:
    """Return the text of a params file with the settings of a recipe and its description at the head."""
    head = [f"{recipe.card.title}.", f"Aims at: {recipe.card.aims_at}.", f"Source: {recipe.card.source}."]
    head += [f"Recipe {recipe.name}."]
    lines = [f"# {line}".rstrip() for line in [*head, "", *recipe.head]]
    return "\n".join([*lines, "", laid_out(recipe.settings)])


def differences(first: str, second: str) -> dict[str, tuple[Any, Any]]:
    """Return dotted key → its values in both recipes, where they differ; ABSENT stands for a missing key.

    The keys are in the order of the first, then of the second recipe.
    """
    one, other = (flat(load(name).settings) for name in (first, second))
    pairs = {key: (one.get(key, ABSENT), other.get(key, ABSENT)) for key in one | other}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def as_text(value: Any) -> str:
    """Return a setting as it is written in params.yaml; "-" for ABSENT."""
    if value is ABSENT:
        return "-"
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _read(path: Path) -> tuple[CommentedMap, tuple[str, ...]]:
    """Return a file's content, with its comments at the ends of lines, and the lines of the comment at its head."""
    tree = read_yaml(path)
    head = tree.ca.comment[1] if tree.ca.comment and tree.ca.comment[1] else []
    lines = tuple(line.removeprefix("#").strip() for token in head for line in token.value.strip().splitlines())
    _tidy(tree)
    return tree, lines


def _tidy(block: CommentedMap) -> None:
    """Remove all comments but those at the ends of lines, and put one space before each of them."""
    block.ca.comment = None
    for key, value in block.items():
        comment = comment_at(block, key)
        block.ca.items.pop(key, None)
        if hasattr(value, "ca"):
            value.ca.comment = None
        set_comment(block, key, comment)
        if isinstance(value, CommentedMap):
            _tidy(value)
