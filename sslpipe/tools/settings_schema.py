"""The JSON Schema of params.yaml (draft 2020-12), made from the classes of settings, for editors.

It refuses unknown keys, wrong types and values out of range. What several keys must have together, such as an optimiser
and its settings, only the stages know. It uses few keywords, which editors of older drafts know as well.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import getdoc, getmodule
from math import inf
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from sslpipe.data.store import PROTOCOLS
from sslpipe.io.settings import Range
from sslpipe.io.stages import LABELLED_STAGES, SHARED_KEYS, STAGES, TRAINING_STAGES, key_of
from sslpipe.running.reliable import SemisupEntry
from sslpipe.running.starts import Entry
from sslpipe.tools.recipes import Card
from sslpipe.tools.settings_reference import blocks, default_of, nested_of, plain, texts
from sslpipe.views.policies import ViewSettings

Json = dict[str, Any]
Defaults = dict[tuple[type, str], list[Any]]
"""Class and field → its defaults, one for each place of the class in params.yaml."""

TYPES: Mapping[Any, Json] = {
    # YAML 1.1 reads 1e-4 as a string, and the stages take it.
    float: {"type": ["number", "string"], "pattern": r"^[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"},
    int: {"type": "integer"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
}
KEYS_OF: Mapping[str, type] = {"second_global_views": ViewSettings}
"""Field that is a block of another class's keys → that class."""
PARENT = "semisup.alternation"
"""Block with a block `ssl` of the method that its key `base` names."""
SET_BESIDE_SSL = ("labelled_batch", "fit")
"""Keys of the base method that do not belong into `ssl`."""


def schema_text() -> str:
    """Return the text of the file SCHEMA."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def schema() -> Json:
    """Return the schema of params.yaml."""
    found = blocks()
    definitions = _Definitions(found)
    properties: Json = {
        "sslpipe": {
            "type": ["string", "number"],
            "description": "Version of sslpipe that the project needs; with another one every stage runs again.",
        },
        "recipe": {
            "anyOf": [{"type": "string"}, definitions.reference(Card)],
            "description": "Recipe that the settings come from; in a recipe itself its description.",
        },
        "seed": {
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "Seed of all random numbers; its size has no meaning.",
        },
        "protocol": {
            "enum": list(PROTOCOLS),
            "default": "split",
            "description": "split: trained on train, evaluated on test. full: both on all images (SCAN).",
        },
    }
    stages = ("prepare", "network", *map(key_of, STAGES[1:]))
    properties |= {stage: _stage(stage, found, definitions) for stage in stages}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml of sslpipe",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "dependentRequired": {key: ["network"] for key in ("pretrain", "semisup", "finetune")},
        "$defs": dict(sorted(definitions.made.items())),
    }


class _Definitions:
    """The part `$defs`: one schema for each class of settings."""

    def __init__(self, found: Mapping[str, type]) -> None:
        """found: block → its class, as `blocks` has them."""
        self.made: Json = {}
        self._names = {cls: name for name, cls in found.items()}
        self._defaults: Defaults = {}
        for cls in (*found.values(), Card, Entry, SemisupEntry):
            _collect(cls, None, self._defaults)

    def reference(self, cls: type) -> Json:
        """Return a reference to the schema of a class, which is made if it is new; blocks have their own names."""
        name = self._names.get(cls, cls.__name__)
        if name not in self.made:
            self.made[name] = {}  # keeps a class within itself from being made forever
            self.made[name] = self._of(cls)
        return {"$ref": f"#/$defs/{name}"}

    def _of(self, cls: type) -> Json:
        block = self._names.get(cls, "")
        shared = SHARED_KEYS.get(block.partition(".")[0], ()) if "." in block else ()
        hints = get_type_hints(cls)
        own = [field for field in fields(cls) if field.name not in shared and hints[field.name] is not NoneType]
        made: Json = {
            # An empty block of the pipeline is one without changes.
            "type": ["object", "null"] if block or issubclass(cls, Entry) else "object",
            "properties": {field.name: self.field(cls, field) for field in own},
            "additionalProperties": False,
        }
        needed = [field.name for field in own if self._never_given(cls, field.name)]
        return made | {"required": needed} if needed and not block else made

    def _never_given(self, cls: type, name: str) -> bool:
        """Return whether a field has no default at any place of its class in params.yaml."""
        return all(default is MISSING for default in self._defaults[cls, name])

    def field(self, cls: type, field: Field[Any]) -> Json:
        """Return the schema of a field, with its text and, where all places of its class agree on one, its default."""
        hint = get_type_hints(cls, include_extras=True)[field.name]
        made = self.reference(KEYS_OF[field.name]) if field.name in KEYS_OF else self._type(hint)
        nested = nested_of(hint)
        if text := texts(cls).get(field.name) or (_summary(nested) if nested else ""):
            made["description"] = text
        first, *others = self._defaults[cls, field.name]
        if first is not MISSING and all(other == first for other in others):
            made["default"] = _changed(first)
        return made

    def _type(self, hint: Any) -> Json:
        """Return the schema of a type hint."""
        origin, inner = get_origin(hint), get_args(hint)
        if origin is Annotated:
            made = self._type(inner[0])
            for bound in inner[1:]:
                made |= _bounds(bound)
        elif origin is Literal:
            made = {"enum": list(inner)}
        elif origin is Mapping:
            made = {"type": "object"}
        elif origin is tuple:
            made = {"type": "array", "items": self._type(inner[0])}
            if inner[-1] is not Ellipsis:
                assert len(set(inner)) == 1, f"{hint}: items of different types"
                made |= {"minItems": len(inner), "maxItems": len(inner)}
        elif isinstance(hint, type) and is_dataclass(hint):
            made = self.reference(hint)
        elif inner:
            made = _any_of([self._type(option) for option in inner])
        else:
            made = dict(TYPES[hint])
        return made


def _any_of(options: list[Json]) -> Json:
    """Return a schema that takes what one of several takes; null is a further type or value where it can be."""
    null = TYPES[NoneType]
    others = [option for option in options if option != null]
    if len(others) < len(options) and len(others) == 1:
        (only,) = others
        if "enum" in only:
            return only | {"enum": [*only["enum"], None]}
        if "type" in only:
            types = only["type"] if isinstance(only["type"], list) else [only["type"]]
            return only | {"type": [*types, "null"]}
    return {"anyOf": options}


def _bounds(bound: object) -> Json:
    """Return the keywords of a Range."""
    if not isinstance(bound, Range):
        return {}
    limits = {"minimum": bound.low, "exclusiveMinimum": bound.above}
    limits |= {"maximum": bound.high, "exclusiveMaximum": bound.below}
    return {key: value for key, value in limits.items() if abs(value) < inf}


def _stage(stage: str, found: Mapping[str, type], definitions: _Definitions) -> Json:
    """Return the schema of a block at the top of params.yaml."""
    nested = [name for name in found if name.startswith(f"{stage}.")]
    methods = {
        name.partition(".")[2]: definitions.reference(found[name]) | {"description": _summary(getmodule(found[name]))}
        for name in nested
    }
    if stage == "prepare":
        made = _prepare(methods, found, definitions)
    elif stage in map(key_of, TRAINING_STAGES):
        made = _methods(stage, methods, found, definitions)
    else:
        made = definitions.reference(found[stage]) | {"description": _summary(found[stage])}
        if needed := _required(found[stage]):
            made |= {"type": "object", "required": needed}
    return made


def _prepare(sources: Json, found: Mapping[str, type], definitions: _Definitions) -> Json:
    """Return the schema of the block `prepare`: its own keys and the blocks of the sources."""
    cls = found["prepare"]
    own = {field.name: definitions.field(cls, field) for field in fields(cls)}
    own["source"] = {"enum": list(sources), **{key: own["source"][key] for key in ("default", "description")}}
    conditions = [
        {
            "if": {"properties": {"source": {"const": name}}, "required": ["source"]},
            "then": {"properties": {name: {"type": "object", "required": needed}}, "required": [name]},
        }
        for name in sources
        if (needed := _required(found[f"prepare.{name}"]))
    ]
    return _block(own | sources, _summary(cls)) | {"allOf": conditions}


def _methods(stage: str, methods: Json, found: Mapping[str, type], definitions: _Definitions) -> Json:
    """Return the schema of the block of a stage with methods."""
    if stage in map(key_of, LABELLED_STAGES):
        semisup = stage == PARENT.partition(".")[0]
        entry = {name: definitions.reference(SemisupEntry if semisup else Entry) for name in methods}
        text = "Methods that run, each with the run that it starts from."
        if semisup:
            _add_bases(definitions, found)
        return _block({"methods": _block(entry, text)} | methods, f"Settings of the stage {stage}, by method.")
    classes = [found[f"{stage}.{name}"] for name in methods]
    own: Json = {"method": {"enum": list(methods), "description": "Method that runs, by the block of its name."}}
    needed = ["method"]
    for key in SHARED_KEYS.get(stage, ()):
        having = [(cls, field) for cls in classes for field in fields(cls) if field.name == key]
        own[key] = definitions.field(*having[0])
        if all(default_of(field) is MISSING for _, field in having) and len(having) == len(classes):
            needed.append(key)
    made = _block(own | methods, f"Settings of the stage {stage}: its method, and a block for each method.")
    return made | {"type": "object", "required": needed}


def _add_bases(definitions: _Definitions, found: Mapping[str, type]) -> None:
    """Give alternation's `ssl` the keys of its base, without those that are set beside it."""
    definitions.reference(found[PARENT])
    made = definitions.made[PARENT]
    stage = PARENT.partition(".")[0]
    names = [name.partition(".")[2] for name in found if name.startswith(f"{stage}.")]
    made["properties"]["base"] |= {"enum": names}
    default = made["properties"]["base"]["default"]
    made["allOf"] = [
        {
            "if": {"properties": {"base": {"const": name}}} | ({} if name == default else {"required": ["base"]}),
            "then": {"properties": {"ssl": definitions.reference(found[f"{stage}.{name}"])}},
        }
        for name in names
    ]
    made["properties"]["ssl"] |= {"properties": dict.fromkeys(SET_BESIDE_SSL, False)}


def _block(properties: Json, text: str) -> Json:
    """Return the schema of a block of these keys, which may be empty."""
    made = {"type": ["object", "null"], "description": text, "properties": properties}
    return made | {"additionalProperties": False}


def _collect(cls: type, value: object, found: Defaults) -> None:
    """Add the defaults of a class, and of the classes within it, to those that were found.

    value: the default of the block that is of this class; None if it has none.
    """
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        default = default_of(field) if value is None else getattr(value, field.name)
        found.setdefault((cls, field.name), []).append(default)
        nested = KEYS_OF.get(field.name) or nested_of(hints[field.name])
        if nested is not None:
            _collect(nested, default if isinstance(default, nested) else None, found)


def _required(cls: type) -> list[str]:
    """Return the keys of a class without a default, except those that the methods of its stage share."""
    shared = {key for keys in SHARED_KEYS.values() for key in keys}
    return [field.name for field in fields(cls) if default_of(field) is MISSING and field.name not in shared]


def _changed(value: Any) -> Any:
    """Return a default as params.yaml has it; of a block the keys that differ from its class, and its name."""
    if not is_dataclass(value) or isinstance(value, type):
        return plain(value)
    always = ("name", getattr(type(value), "PRESET", "name"))
    return {
        field.name: _changed(found)
        for field in fields(value)
        if (found := getattr(value, field.name)) != default_of(field) or field.name in always
    }


def _summary(described: object) -> str:
    """Return the first paragraph of the docstring of a class or module, on one line."""
    return " ".join((getdoc(described) or "").partition("\n\n")[0].split())
