"""Params files of the plan: a recipe's or the demonstration's settings with few values replaced, as by --set."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu.plan import ROOT
from sslpipe.io.files import write_bytes
from sslpipe.io.params import Params


def recipe(name: str) -> Params:
    """Return the settings of a recipe of the checkout."""
    return Params(ROOT / "recipes" / f"{name}.yaml")


def write(path: Path, settings: Params, replaced: Mapping[str, Any], *, only: Sequence[str] = ()) -> None:
    """Write a params file. replaced: dotted key → value. only: the blocks to keep; all if none is named."""
    with redirect_stdout(StringIO()):  # a line for each
        settings.override(replaced)
    tree = {key: value for key, value in settings.tree.items() if not only or key in only}
    write_bytes(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode())
