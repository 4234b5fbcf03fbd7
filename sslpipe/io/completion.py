"""What the shell completes at Tab, beside commands and options: methods, models, blocks of settings.

Nothing is loaded that takes longer than the person at the keyboard wants to wait.
"""

from collections.abc import Iterable
from pathlib import Path

import typer

from sslpipe.io.params import siblings
from sslpipe.io.stages import STAGES, key_of


def methods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the methods of the stage whose command is typed; ctx: of that command."""
    return begin(siblings(f"sslpipe.methods.{key_of(str(ctx.info_name))}"), incomplete)


def logs(incomplete: str) -> list[str]:
    """Return what the option --log takes."""
    return begin(siblings("sslpipe.engine.logs"), incomplete)


def models(incomplete: str) -> list[str]:
    """Return the folders below runs/ that hold a model."""
    found = {path.parent.as_posix() for depth in ("*", "*/*") for path in Path("runs").glob(f"{depth}/model.json")}
    return begin(sorted(found), incomplete)


def blocks(incomplete: str) -> list[str]:
    """Return the blocks of params.yaml: stages, and their methods and sources."""
    names = ["network", *map(key_of, STAGES), *(f"prepare.{name}" for name in siblings("sslpipe.sources"))]
    for stage in map(key_of, STAGES):
        if Path(__file__).parents[1].joinpath("methods", stage).is_dir():
            names += [f"{stage}.{name}" for name in siblings(f"sslpipe.methods.{stage}")]
    return begin(names, incomplete)


def begin(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that begin with what is typed."""
    return [name for name in names if name.startswith(incomplete)]
