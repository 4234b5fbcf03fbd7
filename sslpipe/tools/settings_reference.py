"""Every key of params.yaml with its values, default and text, read from the classes of settings."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import takewhile
from typing import Any, get_args, get_type_hints

import yaml

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.params import find_module, siblings
from sslpipe.io.settings import expected
from sslpipe.io.stages import SHARED_KEYS, STAGES, TRAINING_STAGES, key_of
from sslpipe.metrics.evaluation import EvaluateSettings
from sslpipe.neighbors.mining import MiningSettings
from sslpipe.nets.network import BackboneSettings
from sslpipe.preparation.store_writer import Settings as PrepareSettings
from sslpipe.reporting.settings import ReportSettings
from sslpipe.running.feature_runtime import FeatureSettings
from sslpipe.running.reliable import SemisupEntry
from sslpipe.running.starts import Entry

SINGLE = {
    "prepare": PrepareSettings,
    "network": BackboneSettings,
    "features": FeatureSettings,
    "mine_neighbors": MiningSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
}
"""Blocks with one class of settings."""
ENTRIES = {"semisup.methods": SemisupEntry, "finetune.methods": Entry}
"""Lists of methods, and the class of their entries."""
REQUIRED = "required"


@dataclass(frozen=True)
class Setting:
    """A key of params.yaml."""

    key: str
    """With dots, such as cluster.scan.entropy_weight."""
    values: str
    """Its type and range in words."""
    default: Any
    """Its default; REQUIRED if there is none."""
    text: str
    """What it is, with the source of its default; empty if its class does not say."""


def blocks() -> dict[str, type]:
    """Return the class of settings of each block, such as network and cluster.scan, in the order of the pipeline."""
    packages = {"prepare": "sslpipe.sources"}
    packages |= {key: f"sslpipe.methods.{key}" for key in map(key_of, TRAINING_STAGES)}
    found: dict[str, type] = {}
    for stage in ("prepare", "network", *map(key_of, STAGES)):
        if stage in SINGLE:
            found.setdefault(stage, SINGLE[stage])
        for name in siblings(packages[stage]) if stage in packages else ():
            found.setdefault(f"{stage}.{name}", find_module(packages[stage], name, where=stage).Settings)
    return found


def settings_of(block: str = "") -> list[Setting]:
    """Return all keys, or those in a block, in the blocks of a stage or below a key.

    The keys of an entry in a list of methods are returned for that list alone, such as semisup.methods, or its entry.
    Raises UserError for a block or key that does not exist.
    """
    found = blocks()
    rows = {
        row.key: row
        for name, cls in found.items()
        if _is_in(name, block) or _is_in(block, name)
        for row in _rows(cls, name)
        if _is_in(row.key, block)
    }
    rows |= {row.key: row for row in _entry_rows(block, found) if _is_in(row.key, block)}
    if not rows and block not in found:
        stages = [name.partition(".")[0] for name in found]
        raise UserError(f"settings: '{block}' is no block and no key{nearest(block, [*found, *stages])}")
    return list(rows.values())


def _entry_rows(block: str, found: Mapping[str, type]) -> Iterator[Setting]:
    """Yield the keys of an entry in a list of methods, of METHOD if the block names none."""
    stage, _, rest = block.partition(".")
    name = rest.split(".")[1] if "." in rest else "METHOD"
    for listed, cls in ENTRIES.items():
        if _is_in(block, listed) and (name == "METHOD" or f"{stage}.{name}" in found):
            yield from _rows(cls, f"{listed}.{name}")


def _is_in(key: str, block: str) -> bool:
    return not block or f"{key}.".startswith(f"{block}.")


def _rows(cls: type, where: str) -> Iterator[Setting]:
    """Yield the keys of a class; those that all methods of the stage share stand in the stage's block."""
    stage = where.partition(".")[0]
    shared = SHARED_KEYS.get(stage, ()) if where != stage else ()
    for field in fields(cls):
        place = stage if field.name in shared else where
        yield from _field(cls, field, f"{place}.{field.name}", default_of(field))


def _field(cls: type, field: Field[Any], key: str, default: Any) -> Iterator[Setting]:
    """Yield a field, or the fields of the block that it is."""
    hint = get_type_hints(cls, include_extras=True)[field.name]
    if hint is type(None):
        return  # a method without this block
    nested = nested_of(hint)
    if nested is None or default is None:
        shown = REQUIRED if default is MISSING else plain(default)
        yield Setting(key, expected(hint), shown, texts(cls).get(field.name, ""))
        return
    for inner in fields(nested):
        value = getattr(default, inner.name) if isinstance(default, nested) else default_of(inner)
        yield from _field(nested, inner, f"{key}.{inner.name}", value)


def nested_of(hint: Any) -> type | None:
    """Return the class of settings that a type hint names, alone or beside null; None if it names none."""
    options = (hint, *get_args(hint))
    return next((each for each in options if isinstance(each, type) and is_dataclass(each)), None)


def default_of(field: Field[Any]) -> Any:
    """Return the default of a field, MISSING if it has none."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def plain(value: Any) -> Any:
    """Return a default as params.yaml has it."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


@cache
def texts(cls: type) -> Mapping[str, str]:
    """Return field → text, the string that stands below it in its class."""
    found: dict[str, str] = {}
    for each in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def as_text(rows: Sequence[Setting], width: int) -> str:
    """Return the keys with what is known of them, below each other, in lines of at most `width` characters."""
    wrap = textwrap.TextWrapper(width, initial_indent="    ", subsequent_indent="    ")
    lines = []
    for row in rows:
        lines.append(f"{row.key}: {row.default if row.default == REQUIRED else inline(row.default)}")
        lines += [*wrap.wrap(row.values), *wrap.wrap(row.text)]
    return "\n".join(lines)


def as_yaml(rows: Sequence[Setting]) -> str:
    """Return a block of params.yaml with all keys at their defaults; keys without one are comments."""
    lines: list[str] = []
    above: list[str] = []
    for row in rows:
        *parents, name = row.key.split(".")
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(above, parents, strict=False))))
        lines += ["  " * depth + f"{parents[depth]}:" for depth in range(same, len(parents))]
        above = parents
        required = f"# {name}: {row.values}, {REQUIRED}"
        lines.append("  " * len(parents) + (required if row.default == REQUIRED else f"{name}: {inline(row.default)}"))
    return "\n".join(lines)
