"""Settings of a project: params.yaml, overridden by options of the command line."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.renamed import unknown_key
from sslpipe.io.settings import parse
from sslpipe.io.stages import SHARED_KEYS, STAGES, key_of
from sslpipe.io.version import own_version

T = TypeVar("T")
TOP_LEVEL = ("sslpipe", "recipe", "seed", "protocol", "network", *map(key_of, STAGES))
"""Keys of params.yaml: blocks of stages, and what several stages read."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that a block has twice, as DVC does; yaml takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a block of keys; raises ConstructorError for a key that it has twice."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                text = f"the key {key.value} is there twice"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Params:
    """Settings of a project: a tree of mappings, read from `path`, whose values options may override."""

    def __init__(self, path: Path) -> None:
        try:
            tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file; run sslpipe in the folder of params.yaml, or give its path with --params"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
        if not isinstance(tree, dict):
            raise UserError(f"{path}: expected a mapping of stages to settings")
        # A project states its version of sslpipe, because another version may have other results.
        wanted, found = str(tree.get("sslpipe", own_version())), own_version()
        if wanted != found:
            raise UserError(
                f"{path}: sslpipe: {wanted} is required, {found} is installed; write {found}, and every stage "
                f"runs again, or install {wanted}"
            )
        self.path = path
        self.tree: dict[str, Any] = tree

    def override(self, options: Mapping[str, Any], assignments: list[str] | None = None, *, stage: str = "") -> None:
        """Override settings by options, and print a line for each.

        options: dotted key → value; None if the option is not given. assignments: texts "key=value" of --set, with the
        value in YAML; the key is relative to the stage's block, unless its first part is a block of params.yaml.
        """
        given = {key: value for key, value in options.items() if value is not None}
        for text in assignments or []:
            key, equals, value = text.partition("=")
            if not equals:
                raise UserError(f"--set {text}: expected key=value")
            known = key.split(".")[0] in self.tree
            given[key if known else f"{stage}.{key}"] = _value(text, value)
        for key, value in given.items():
            *parents, name = key.split(".")
            block = self.tree
            for part in parents:
                if block.get(part) is None:
                    block[part] = {}
                block = block[part]
                if not isinstance(block, dict):
                    raise UserError(f"{key}: '{part}' is a value in {self.path}, not a block")
            before = block.get(name, "not set")
            block[name] = value
            info(f"{key} = {value}  (option; {self.path}: {before})")

    def method(self, stage: str, package: str) -> str:
        """Return the name of the method that a stage is to use.

        stage: its block. Raises UserError if the block has no `method`, or has keys other than that one, those that all
        methods share, and the names of the modules of `package`.
        """
        names = siblings(package)
        self.check_keys(stage, ["method", *SHARED_KEYS.get(stage, ()), *names])
        if (method := self._block(stage).get("method")) is None:
            raise UserError(f"{stage}.method: missing, expected one of {', '.join(names)}")
        return str(method)

    def check_stages(self, packages: Mapping[str, str]) -> None:
        """Raise UserError for a key that no stage reads; packages: stage with methods → the package of its methods."""
        for key in self.tree:
            if key not in TOP_LEVEL:
                raise UserError(f"{key}: unknown key{nearest(str(key), TOP_LEVEL)}")
        for stage, package in packages.items():
            if stage in self.tree:
                self.check_keys(stage, ["method", "methods", *SHARED_KEYS.get(stage, ()), *siblings(package)])

    def check_keys(self, where: str, known: Sequence[str]) -> None:
        """Raise UserError for a key of the block `where` that is not among the known ones."""
        for key in self._block(where):
            if key not in known:
                raise unknown_key(where, str(key), known)

    def names(self, where: str) -> tuple[str, ...]:
        """Return the keys of the block `where`, in order."""
        return tuple(str(key) for key in self._block(where))

    def present(self, of_stages: Mapping[str, T]) -> dict[str, T]:
        """Return the items of stages that have a block: a stage without a block is not part of the project."""
        return {stage: item for stage, item in of_stages.items() if stage in self.tree}

    def parse(self, cls: type[T], where: str) -> T:
        """Return the block at the dotted key `where` as settings of class `cls`; a missing block is empty."""
        return parse(cls, self._block(where), where=where)

    def parse_method(self, cls: type[T], stage: str, method: str) -> T:
        """Return the settings of a stage's method: its block, and the keys of the stage's block that methods share.

        stage: the stage's block, such as cluster.
        """
        where, around = f"{stage}.{method}", self._block(stage)
        return parse(cls, self._block(where), where=where, around=around, shared=SHARED_KEYS.get(stage, ()))

    def _block(self, where: str) -> Any:
        block: Any = self.tree
        for part in where.split("."):
            if not isinstance(block, Mapping):
                raise UserError(f"{where}: expected a block of keys in {self.path}")
            block = block.get(part)
            if block is None:
                block = {}
        if not isinstance(block, Mapping):
            raise UserError(f"{where}: {block!r} found in {self.path}, expected a block of keys")
        return block

    @property
    def seed(self) -> int:
        """Seed of all random numbers, an integer ≥ 0."""
        seed = self.tree.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise UserError(f"seed: {seed!r} found, expected a whole number at least 0")
        return seed


def _value(assignment: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {assignment}: the value is not readable as YAML") from None


def siblings(package: str) -> tuple[str, ...]:
    """Return the names of a package's public modules, which do not begin with an underscore."""
    names = (module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def find_module(package: str, name: str, *, where: str) -> ModuleType:
    """Return the module `name` of `package`: methods and sources are found by the names of their files.

    where: the params key with this name, for the error, which lists the modules that exist.
    """
    names = siblings(package)
    if name not in names:
        raise UserError(f"{where}: unknown name '{name}'{nearest(name, names)}")
    return importlib.import_module(f"{package}.{name}")
